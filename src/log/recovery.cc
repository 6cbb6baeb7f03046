#include "log/recovery.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "base/try.h"
#include "log/compaction.h"
#include "log/frame_walker.h"
#include "log/padding_frame.h"
#include "segment/block_writer.h"
#include "segment/segment_name.h"
#include "segment/segment_reader.h"

namespace nori {
namespace {

// What quarantine/ may hold before recovery stops adding to it.
constexpr std::uint64_t kQuarantineBytesMax = 256 * kMiB;

class Recovery {
 public:
  Recovery(io::Directory& directory, LogScan& scan, const WriteMode& mode)
      : directory_(directory), scan_(scan), mode_(mode) {}

  Result<void> run() {
    NORI_TRY(quarantine_tail());
    NORI_TRY(write_again());
    return cut();
  }

 private:
  void note(std::string_view what, const Error& error) {
    scan_.info.quarantine_note = fmt::format("{} was not kept: {}", what, error.message);
  }

  Result<io::Directory*> quarantine() {
    if (quarantine_ == nullptr) {
      quarantine_ = NORI_TRY(directory_.subdirectory(kQuarantineName));
      NORI_TRY(directory_.sync());
      for (const auto& name : NORI_TRY(quarantine_->list())) {
        const auto file =
            NORI_TRY(quarantine_->open(name, io::Access::read, io::Creation::existing));
        quarantine_bytes_ += NORI_TRY(file->size());
      }
    }
    return quarantine_.get();
  }

  std::string unused_name(std::string_view stem, const std::vector<std::string>& names) {
    for (int i = 0;; ++i) {
      auto name = fmt::format("{}.{}", stem, i);
      if (std::ranges::find(names, name) == names.end()) {
        return name;
      }
    }
  }

  // (b) What will be cut from the end's segment, and the ring where it goes on behind a hole. A
  // quarantine that cannot be written is noted, and no reason to stay closed.
  Result<void> quarantine_tail() {
    if (scan_.bytes_behind_end != 0 && scan_.end_segment.has_file) {
      const auto name = segment_name(scan_.end.segment_id);
      copy_to_quarantine(name, scan_.end.offset, scan_.bytes_behind_end,
                         fmt::format("{}.{}", name, scan_.end.offset));
    }
    if (scan_.bytes_behind_in_ring != 0) {
      const auto ring =
          NORI_TRY(directory_.open(kRingName, io::Access::read, io::Creation::existing));
      copy_to_quarantine(kRingName, 0, NORI_TRY(ring->size()), kRingName);
    }
    return {};
  }

  void copy_to_quarantine(std::string_view name, std::uint64_t offset, std::uint64_t bytes,
                          std::string_view stem) {
    const bool was_kept = std::ranges::any_of(
        scan_.info.quarantined,
        [prefix = fmt::format("{}.", stem)](const auto& kept) { return kept.starts_with(prefix); });
    if (was_kept) {
      return;  // by a recovery that this one goes on with
    }
    if (const auto kept = copy(name, offset, bytes, stem); !kept) {
      note(stem, kept.error());
    }
  }

  Result<void> copy(std::string_view name, std::uint64_t offset, std::uint64_t bytes,
                    std::string_view stem) {
    auto* into = NORI_TRY(quarantine());
    if (quarantine_bytes_ + bytes > kQuarantineBytesMax) {
      return std::unexpected(
          Error{.code = ErrorCode::no_space,
                .message = fmt::format("{} is full; empty it", into->path().string())});
    }
    const auto new_name = unused_name(stem, NORI_TRY(into->list()));
    const auto copied = [&]() -> Result<void> {
      const auto from = NORI_TRY(directory_.open(name, io::Access::read, io::Creation::existing));
      const auto to =
          NORI_TRY(into->open(new_name, io::Access::write_buffered, io::Creation::replace));
      std::vector<std::byte> piece(std::min(bytes, kMiB));
      for (std::uint64_t done = 0; done < bytes;) {
        const auto wanted = std::min<std::uint64_t>(bytes - done, piece.size());
        const auto read = NORI_TRY(from->read_at(offset + done, ByteSpan(piece).first(wanted)));
        if (read == 0) {
          break;
        }
        NORI_TRY(to->write_at(done, ByteView(piece).first(read), {}, false));
        done += read;
      }
      NORI_TRY(to->sync());
      return into->sync();
    }();
    if (!copied) {
      static_cast<void>(into->remove(new_name));  // what it holds of a full disk
      return copied;
    }
    scan_.info.quarantined.push_back(new_name);
    quarantine_bytes_ += bytes;
    return {};
  }

  // (c) What is kept but not provably durable, with the same bytes; then the last block is filled.
  Result<void> write_again() {
    FrameWalker walker(directory_, scan_.log_id);
    NORI_TRY(walker.refresh_ring());
    walker.seek(*scan_.rewrite_from);
    for (std::size_t i = 0; i < scan_.segments_to_rewrite.size(); ++i) {
      auto& start = scan_.segments_to_rewrite[i];
      NORI_TRY(ensure_file(start, walker.place()));
      NORI_TRY(write_segment_again(start, walker));
      if (i != 0) {
        // A footer says that the next name is durable. A killed process leaves names that are not.
        NORI_TRY(directory_.sync());
        NORI_TRY(end_in_footer(scan_.segments_to_rewrite[i - 1]));
      }
    }
    return {};
  }

  SegmentHeader header_of(const SegmentStart& start) const {
    SegmentHeader header;
    header.log_id = scan_.log_id;
    header.first_segment = header.last_segment = start.segment_id;
    header.first_sequence = start.first_sequence;
    header.epoch = start.epoch;
    header.durable_mark = start.first_sequence;
    header.created_ms = start.created_ms;
    header.first_offset = start.first_offset;
    header.ring_base = start.ring_base;
    return header;
  }

  Result<void> ensure_file(SegmentStart& start, const FramePlaceInLog& place) {
    if (start.has_file) {
      return {};
    }
    // A file of that name with another header is what will be cut, or what the ring heals.
    if (const auto file = scan_.listing.file_of(start.segment_id); file) {
      NORI_TRY(move_away(*file));
    }
    if (start.first_offset % mode_.block_bytes != 0) {
      start.first_offset = place.offset;
    }
    NORI_TRY(create_segment(directory_, header_of(start), mode_));
    start.has_file = true;
    if (start.segment_id == scan_.end_segment.segment_id) {
      scan_.end_segment = start;
    }
    return {};
  }

  Result<void> write_segment_again(const SegmentStart& start, FrameWalker& walker) {
    const auto id = start.segment_id;
    const auto from = walker.place().offset;
    const bool is_end = id == scan_.end.segment_id;
    if (is_end && from == scan_.end.offset && from % mode_.block_bytes == 0) {
      return {};  // nothing is kept that is not durable
    }
    const auto file =
        NORI_TRY(directory_.open(segment_name(id), mode_.access, io::Creation::existing));
    BlockWriter writer(*file, round_down(from, mode_.block_bytes), mode_.block_bytes);
    {
      const auto before = NORI_TRY(SegmentReader::open(directory_, id));
      const auto bytes = NORI_TRY(before->view(writer.offset(), from - writer.offset()));
      NORI_TRY(writer.write(bytes));
    }
    const auto seed = segment_seed(scan_.log_id, 0, id);
    while (walker.place().segment_id == id &&
           !(is_end && walker.place().offset == scan_.end.offset)) {
      const auto frame = NORI_TRY(walker.next());
      if (!frame) {
        return std::unexpected(Error{
            .code = ErrorCode::io,
            .message = fmt::format("{} at offset {}: a frame that was read before is gone ({}); "
                                   "open the log again",
                                   (directory_.path() / segment_name(id)).string(),
                                   walker.place().offset, walker.stop_reason())});
      }
      std::array<std::byte, kFrameHeaderBytes> header;
      encode_frame_header(frame->header, place_seed(seed, frame->place.offset), header.data());
      NORI_TRY(writer.write(header));
      NORI_TRY(writer.write(frame->payload));
    }
    if (is_end) {
      NORI_TRY(fill_last_block(writer, seed));
    }
    NORI_TRY(writer.finish());
    return file->sync();
  }

  Result<void> fill_last_block(BlockWriter& writer, std::uint32_t seed) {
    const auto payload_bytes = padding_payload_bytes(writer.offset(), mode_.block_bytes);
    if (!payload_bytes) {
      return {};
    }
    const auto header = padding_header(scan_.chain, *payload_bytes, scan_.durable_mark);
    std::array<std::byte, kFrameHeaderBytes> bytes;
    encode_frame_header(header, place_seed(seed, writer.offset()), bytes.data());
    scan_.end_summary.add(header, writer.offset());
    NORI_TRY(writer.write(bytes));
    NORI_TRY(writer.write_zeros(*payload_bytes));
    scan_.end.offset = writer.offset();
    return {};
  }

  Result<void> end_in_footer(const SegmentStart& start) {
    auto summary = start.summary;
    summary.durable_mark = summary.end_sequence;
    const auto file = NORI_TRY(
        directory_.open(segment_name(start.segment_id), mode_.access, io::Creation::existing));
    return write_footer(*file, summary, segment_seed(scan_.log_id, 0, start.segment_id), mode_);
  }

  // Into quarantine/; on a full disk removed.
  Result<void> move_away(const SegmentFile& file) {
    const auto name = file.name();
    const auto moved = move_into_quarantine(name);
    if (!moved) {
      if (moved.error().code != ErrorCode::no_space) {
        return moved;
      }
      note(name, moved.error());
      NORI_TRY(directory_.remove(name));
    }
    return directory_.sync();
  }

  Result<void> move_into_quarantine(const std::string& name) {
    auto* into = NORI_TRY(quarantine());
    const auto new_name = unused_name(name, NORI_TRY(into->list()));
    NORI_TRY(directory_.move_to(name, *into, new_name));
    NORI_TRY(into->sync());
    scan_.info.quarantined.push_back(new_name);
    return {};
  }

  // (d)
  Result<void> cut() {
    const auto file = NORI_TRY(
        directory_.open(segment_name(scan_.end.segment_id), mode_.access, io::Creation::existing));
    NORI_TRY(file->truncate(scan_.end.offset));
    NORI_TRY(file->sync());
    // Newest first, so that no crash leaves a hole.
    for (auto i = scan_.segments_behind_end.size(); i-- > 0;) {
      NORI_TRY(move_away(scan_.segments_behind_end[i]));
    }
    // Where it fails they stay void: before a covering file goes they are removed again.
    static_cast<void>(remove_void_segments(directory_, scan_.listing));
    for (const auto& name : scan_.listing.void_files) {
      // create_segment() has used one of these names up.
      static_cast<void>(directory_.remove(name));
    }
    // What continues the log is in its segment. What does not might come to continue it once the
    // last block is filled.
    if (scan_.listing.has_ring) {
      NORI_TRY(directory_.remove(kRingName));
      scan_.listing.has_ring = false;
    }
    return directory_.sync();
  }

  io::Directory& directory_;
  LogScan& scan_;
  WriteMode mode_;
  std::unique_ptr<io::Directory> quarantine_;
  std::uint64_t quarantine_bytes_ = 0;
};

}  // namespace

Result<void> recover_log(io::Directory& directory, LogScan& scan, const WriteMode& mode) {
  return Recovery(directory, scan, mode).run();
}

}  // namespace nori
