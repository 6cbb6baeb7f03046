#include "log/compaction.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "base/make_error.h"
#include "base/try.h"
#include "log/padding_frame.h"
#include "segment/block_writer.h"
#include "segment/summary_builder.h"

namespace nori {
namespace {

// A reader by position reads a frame whole.
constexpr std::size_t kFrameRecordsBytes = 64 * 1024;
// About what a record and a frame take beyond what is stored of them.
constexpr std::uint64_t kRecordOverheadBytes = 3;
constexpr std::uint64_t kFrameOverheadBytes = kFrameHeaderBytes + 3;
constexpr int kAttemptsMax = 20;
constexpr std::uint64_t kRecordFrontBytesMax = 3 * kVarintBytesMax;

using Files = std::span<const SealedFile>;

std::uint64_t bytes_of(Files files) {
  std::uint64_t bytes = 0;
  for (const auto& file : files) {
    bytes += file.bytes;
  }
  return bytes;
}

// What records take in a compacted file, without its frames.
std::uint64_t record_bytes(const LiveRecords::FileTotals& left) {
  return left.bytes + left.records * kRecordOverheadBytes;
}

// What a file of so much would take.
std::uint64_t compacted_bytes(const LiveRecords::FileTotals& left, std::uint64_t block_bytes) {
  const auto records = record_bytes(left);
  // The header, the rotation frame and the footer have a block each.
  return round_up(records + (records / kFrameRecordsBytes + 1) * kFrameOverheadBytes, block_bytes) +
         3 * block_bytes;
}

// What is left where all is kept.
LiveRecords all_records(Files files) {
  LiveRecords live;
  for (const auto& file : files) {
    const auto& summary = file.summary;
    const auto frames = summary.end_offset - file.header.first_offset - summary.padding_bytes;
    live.files.push_back({.records = summary.records,
                          .bytes = frames - std::min(frames, summary.frames * kFrameHeaderBytes),
                          .records_all = summary.records});
  }
  return live;
}

// Writes a compacted file's frames.
class CompactedWriter {
 public:
  CompactedWriter(io::File& file, const SegmentHeader& header, std::uint64_t block_bytes,
                  const CompactionStep& step)
      : header_(header),
        block_bytes_(block_bytes),
        writer_(file, 0, block_bytes, BlockWriter::Writeback::at_once),
        step_(step),
        summary_(header.first_sequence),
        time_ms_(header.created_ms) {
    frame_.begin(header.first_sequence, header.epoch);
  }

  Result<void> begin() {
    std::array<std::byte, kSegmentHeaderBytes> bytes;
    encode_segment_header(header_, bytes.data());
    NORI_TRY(writer_.write(bytes));
    return writer_.write_zeros(header_.first_offset - bytes.size());
  }

  Result<void> add(const FrameRecord& record, std::uint64_t epoch) {
    if (record.bytes.size() > kPayloadBytesMax - kRecordFrontBytesMax) {
      return make_error(ErrorCode::too_large, "record {} is too large to be compacted",
                        record.sequence);
    }
    if (frame_.record_count() != 0 &&
        (!frame_.takes(record.sequence, epoch) ||
         frame_.records_bytes() + record.bytes.size() > kFrameRecordsBytes)) {
      NORI_TRY(end_frame(record.sequence));
    }
    if (frame_.record_count() == 0) {
      NORI_TRY(cover(record.sequence));
      frame_.begin(frame_.first_sequence(), epoch);
    }
    frame_.add(record);
    time_ms_ = record.time_ms;
    return {};
  }

  // The end of a batch was left out.
  void end_batch() { frame_.end_batch(); }

  // Ends it where the last of its segments ended.
  Result<SegmentSummary> finish(const SegmentSummary& last, const RotationPayload& rotation) {
    if (frame_.record_count() != 0) {
      NORI_TRY(end_frame(last.end_sequence));
    }
    NORI_TRY(cover(last.end_sequence));
    if (frame_.first_sequence() != last.end_sequence) {
      NORI_TRY(end_frame(last.end_sequence));
    }
    std::array<std::byte, kRotationPayloadBytes> payload;
    encode_rotation(rotation, payload.data());
    const auto used = writer_.offset() + kFrameHeaderBytes + payload.size();
    const auto zeros = round_up(used, block_bytes_) - used;
    FrameHeader header;
    header.kind = FrameKind::rotation;
    header.payload_bytes = payload.size() + zeros;
    header.payload_crc32c = crc32c_of_zeros(crc32c(0, payload), zeros);
    header.first_sequence = last.end_sequence;
    header.epoch = last.epoch;
    header.time_ms = last.last_time_ms;
    header.durable_mark = last.end_sequence;
    NORI_TRY(write_frame(header, 0, payload, {}));
    NORI_TRY(writer_.write_zeros(zeros));
    NORI_TRY(writer_.finish());
    auto summary = summary_.summary();
    summary.durable_mark = last.end_sequence;
    return summary;
  }

 private:
  // Frames without a record, while so many sequences are missing that one cannot cover them.
  Result<void> cover(Sequence sequence) {
    while (sequence - frame_.first_sequence() >= kRecordsPerFrameMax) {
      NORI_TRY(end_frame(frame_.first_sequence() + kRecordsPerFrameMax));
    }
    return {};
  }

  // The frame covers what lies before `next`, if that is not too much.
  Result<void> end_frame(Sequence next) {
    const auto end = std::min(next, frame_.first_sequence() + kRecordsPerFrameMax);
    const auto header = frame_.header(end, time_ms_);
    const auto [front, records] = frame_.payload();
    NORI_TRY(write_frame(header, frame_.record_count(), front, records));
    NORI_TRY(step_(header.frame_bytes()));
    frame_.begin(end, header.epoch);
    return {};
  }

  Result<void> write_frame(const FrameHeader& header, std::uint64_t records, ByteView front,
                           ByteView rest) {
    std::array<std::byte, kFrameHeaderBytes> bytes;
    const auto offset = writer_.offset();
    encode_frame_header(header, place_seed(header_.seed(), offset), bytes.data());
    NORI_TRY(writer_.write(bytes));
    NORI_TRY(writer_.write(front));
    NORI_TRY(writer_.write(rest));
    summary_.add(header, offset, records);
    return {};
  }

  const SegmentHeader& header_;
  const std::uint64_t block_bytes_;
  BlockWriter writer_;
  const CompactionStep& step_;
  SummaryBuilder summary_;
  CompactedFrame frame_;
  std::uint64_t time_ms_;
};

class Compaction {
 public:
  Compaction(const CompactionContext& context, const CompactionOptions& options)
      : context_(context),
        options_(options),
        directory_(context.directory),
        rule_{.now_ms = context.now_ms} {}

  Result<CompactionReport> run() {
    NORI_TRY(choose());
    if (files_.empty()) {
      return report_;
    }
    if (options_.keep == CompactionOptions::Keep::all) {
      live_ = all_records(files_);
    } else {
      live_ = NORI_TRY(find_live_records(directory_, context_.log_id, files_, rule_,
                                         options_.memory_bytes, context_.seed, context_.step));
    }
    if (!is_worth_while()) {
      for (const auto& file : files_) {
        leave(file);
      }
      return report_;
    }
    for (std::size_t begin = 0; begin < files_.size();) {
      const auto end = group_end(begin);
      NORI_TRY(compact_group(begin, end));
      begin = end;
    }
    return report_;
  }

 private:
  Result<void> choose() {
    Sequence limit = 0;
    LogListing listing;
    {
      const std::lock_guard lock(context_.delete_mutex);
      const auto limits = NORI_TRY(context_.limits());
      limit = limits.compact_before;
      rule_.before = limits.drop_before;
      listing = NORI_TRY(list_log(directory_));
      NORI_TRY(remove_void_segments(directory_, listing));
    }
    if (options_.to) {
      limit = std::min(limit, options_.to->sequence);
    }
    const auto active = context_.active_segment_id();
    for (const auto& name : listing.segments) {
      if (name.last >= active) {
        break;
      }
      auto file = NORI_TRY(read_sealed_file(directory_, context_.log_id, name));
      if (!file || file->summary.end_sequence > limit) {
        break;
      }
      if (options_.from && file->header.first_sequence < options_.from->sequence) {
        continue;
      }
      files_.push_back(*std::move(file));
    }
    if (files_.empty() || files_.front().name != listing.segments.front()) {
      rule_.before = 0;  // what lies before may hold what a tombstone hides
    }
    return {};
  }

  [[nodiscard]] bool is_worth_while() const {
    const auto left = totals(0, files_.size());
    const auto bytes_before = bytes_of(files_);
    const auto bytes_after = compacted_bytes(left, context_.mode.block_bytes);
    return static_cast<double>(bytes_after) <=
           static_cast<double>(bytes_before) * (1 - options_.garbage_ratio_min);
  }

  void leave(const SealedFile& file) {
    ++report_.files_before;
    ++report_.files_after;
    report_.bytes_before += file.bytes;
    report_.bytes_after += file.bytes;
    report_.records_before += file.summary.records;
    report_.records_after += file.summary.records;
  }

  // Behind the last file of the group that begins there.
  [[nodiscard]] std::size_t group_end(std::size_t begin) const {
    std::uint64_t bytes = 0;
    auto end = begin;
    do {
      bytes += record_bytes(live_.files[end]);
      ++end;
    } while (end < files_.size() &&
             bytes + record_bytes(live_.files[end]) <= context_.target_bytes);
    return end;
  }

  Result<void> compact_group(std::size_t begin, std::size_t end) {
    const auto files = Files(files_).subspan(begin, end - begin);
    const auto left = totals(begin, end);
    const auto bytes_before = bytes_of(files);
    auto bytes_after = compacted_bytes(left, context_.mode.block_bytes);
    const auto name = SegmentFile::compacted(files.front().name.first, files.back().name.last);
    bool is_replaced = bytes_after < bytes_before;
    if (is_replaced && !options_.dry_run) {
      auto replaced = [&]() -> Result<bool> {
        bytes_after = NORI_TRY(write(begin, end, name, bytes_after));
        return replace(files, name, left.dropped != 0);
      }();
      if (!replaced || !*replaced) {
        static_cast<void>(directory_.remove(kCompactionName));
      }
      is_replaced = NORI_TRY(std::move(replaced));
    }
    if (!is_replaced) {
      std::ranges::for_each(files, [&](const SealedFile& file) { leave(file); });
      // What is garbage in it stays, and so does what hides that further on.
      may_drop_ = may_drop_ && left.records == left.records_all;
      return {};
    }
    report_.files_before += files.size();
    report_.bytes_before += bytes_before;
    report_.records_before += left.records_all;
    report_.files_after += 1;
    report_.bytes_after += bytes_after;
    report_.records_after += left.records;
    report_.tombstones_dropped += left.dropped;
    report_.files.push_back(name.name());
    return {};
  }

  // Of the files [begin, end): what will be left of them.
  [[nodiscard]] LiveRecords::FileTotals totals(std::size_t begin, std::size_t end) const {
    LiveRecords::FileTotals sum;
    for (const auto& file : std::span(live_.files).subspan(begin, end - begin)) {
      sum.records_all += file.records_all;
      sum.records += file.records + (may_drop_ ? 0 : file.dropped);
      sum.bytes += file.bytes + (may_drop_ ? 0 : file.dropped_bytes);
      sum.dropped += may_drop_ ? file.dropped : 0;
    }
    return sum;
  }

  [[nodiscard]] std::uint64_t records_before(std::size_t file) const {
    std::uint64_t records = 0;
    for (std::size_t i = 0; i < file; ++i) {
      records += live_.files[i].records_all;
    }
    return records;
  }

  [[nodiscard]] bool is_wanted(std::uint64_t index) const {
    return options_.keep == CompactionOptions::Keep::all || live_.is_live[index] ||
           (!may_drop_ && live_.is_dropped[index]);
  }

  // Whether anything of the file is left.
  [[nodiscard]] bool has_wanted(std::size_t file) const {
    return options_.keep == CompactionOptions::Keep::all || totals(file, file + 1).records != 0;
  }

  // Of the files [begin, end). Returns the rotation frame at their end.
  Result<RotationPayload> copy_wanted(std::size_t begin, std::size_t end, CompactedWriter& writer) {
    const std::vector<SealedFile> range(files_.begin() + static_cast<std::ptrdiff_t>(begin),
                                        files_.begin() + static_cast<std::ptrdiff_t>(end));
    const auto first_index = records_before(begin);
    SegmentRangeReader reader(directory_, context_.log_id, range);
    std::uint64_t bytes_told = 0;
    while (const auto* const next = NORI_TRY(reader.next())) {
      if (is_wanted(first_index + next->index)) {
        NORI_TRY(writer.add(next->record, next->epoch));
      } else if (next->record.ends_batch) {
        writer.end_batch();
      }
      if (reader.bytes_read() - bytes_told >= kMiB) {
        NORI_TRY(context_.step(reader.bytes_read() - bytes_told));
        bytes_told = reader.bytes_read();
      }
    }
    return reader.rotation();
  }

  // compact.tmp, of the files [begin, end), durable. Returns its size.
  Result<std::uint64_t> write(std::size_t begin, std::size_t end, const SegmentFile& name,
                              std::uint64_t bytes_expected) {
    const auto files = Files(files_).subspan(begin, end - begin);
    const auto& first = files.front().header;
    const auto& last = files.back().summary;
    SegmentHeader header;
    header.generation = 1 + std::ranges::max(files, {}, [](const SealedFile& file) {
                              return file.header.generation;
                            }).header.generation;
    header.log_id = context_.log_id;
    header.first_segment = name.first;
    header.last_segment = name.last;
    header.first_sequence = first.first_sequence;
    header.epoch = first.epoch;
    header.durable_mark = last.end_sequence;
    header.created_ms = first.created_ms;
    header.first_offset = context_.mode.block_bytes;
    // Buffered, whatever the log's own files are: the device writes while the next records are
    // read, which takes a quarter off the time of a compaction that keeps all.
    auto mode = context_.mode;
    mode.access = io::Access::write_buffered;
    const auto file =
        NORI_TRY(directory_.open(kCompactionName, mode.access, io::Creation::replace));
    NORI_TRY(file->allocate(0, bytes_expected));
    CompactedWriter writer(*file, header, context_.mode.block_bytes, context_.step);
    NORI_TRY(writer.begin());
    RotationPayload rotation;
    // The last file says where the log goes on, whatever else it holds.
    const auto is_read = [&](std::size_t i) { return i + 1 == end || has_wanted(i); };
    for (auto from = begin; from < end; ++from) {
      auto to = from;
      while (to < end && is_read(to)) {
        ++to;
      }
      if (to != from) {
        rotation = NORI_TRY(copy_wanted(from, to, writer));
        from = to;  // which is not read, or behind the last one
      }
    }
    const auto summary = NORI_TRY(writer.finish(last, rotation));
    NORI_TRY(write_footer(*file, summary, header.seed(), mode));
    return file->size();
  }

  // False where a file of the range was deleted meanwhile, or may not go any more.
  Result<bool> replace(Files files, const SegmentFile& name, bool has_dropped) {
    const std::lock_guard lock(context_.delete_mutex);
    const auto listing = NORI_TRY(list_log(directory_));
    const bool all_there = std::ranges::all_of(files, [&](const SealedFile& file) {
      return listing.file_of(file.name.first) == file.name;
    });
    const auto limits = NORI_TRY(context_.limits());
    if (!all_there || limits.compact_before < files.back().summary.end_sequence ||
        (has_dropped && limits.drop_before < rule_.before)) {
      return false;
    }
    NORI_TRY(directory_.rename(kCompactionName, name.name()));
    const auto replaced = NORI_TRY(list_log(directory_));
    NORI_TRY(remove_void_segments(directory_, replaced));
    return true;
  }

  const CompactionContext& context_;
  const CompactionOptions& options_;
  io::Directory& directory_;
  DropRule rule_;
  std::vector<SealedFile> files_;
  LiveRecords live_;
  bool may_drop_ = true;  ///< Nothing that a tombstone hides was left in an older file.
  CompactionReport report_;
};

}  // namespace

Result<void> remove_void_segments(io::Directory& directory, const LogListing& listing) {
  if (listing.void_segments.empty()) {
    return {};
  }
  // A killed process may have left the covering file's name undurable.
  NORI_TRY(directory.sync());
  for (const auto& name : listing.void_segments) {
    NORI_TRY(directory.remove(name));
  }
  return directory.sync();
}

Result<CompactionReport> compact_segments(const CompactionContext& context,
                                          const CompactionOptions& options) {
  for (int attempt = 0;; ++attempt) {
    auto report = Compaction(context, options).run();
    // A file may be deleted between its listing and its reading: then with those that are left.
    if (report || report.error().system_errno != ENOENT || attempt == kAttemptsMax) {
      return report;
    }
  }
}

}  // namespace nori
