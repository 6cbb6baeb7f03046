#include "nori/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <map>
#include <memory>
#include <new>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/make_error.h"
#include "base/try.h"
#include "format/frame_records.h"
#include "format/value_compression.h"
#include "io/file_system.h"
#include "log/derived_places.h"
#include "log/frame_walker.h"
#include "log/log_scan.h"
#include "log/seek.h"
#include "log/tail_evidence.h"
#include "observe/event_queue.h"
#include "segment/segment_name.h"
#include "segment/segment_reader.h"
#include "segment/summary_builder.h"
#include "snapshot/snapshot_files.h"

namespace nori {
namespace {

constexpr int kAttemptsMax = 20;
// Beside a live writer nothing is judged at first sight.
constexpr int kLooksMax = 3;

bool is_well_formed(const WalkedFrame& frame, ValueBuffer& value_buffer) {
  FrameRecords records(frame.header, frame.payload);
  while (const auto record = records.next()) {
    const auto& stored = record->stored;
    std::string_view value;
    if (stored.compression != Compression::none &&
        !value_buffer.decompress(stored.compression, stored.record.value, stored.plain_bytes,
                                 value)) {
      return false;
    }
  }
  return records.is_done();
}

bool has_records(const WalkedFrame& frame) {
  return frame.header.kind == FrameKind::records || frame.header.kind == FrameKind::compacted;
}

void count(const WalkedFrame& frame, SegmentReport& row) {
  row.records += frame.records;
  row.frames += 1;
  row.end_sequence = frame.header.end_sequence();
  if (!has_records(frame)) {
    row.bytes_padding += frame.header.frame_bytes();
  }
}

// Whether a footer tells what was counted.
bool agrees(const SegmentSummary& told, const SegmentSummary& counted) {
  return told.frames == counted.frames && told.records == counted.records &&
         told.first_sequence == counted.first_sequence &&
         told.end_sequence == counted.end_sequence && told.end_offset == counted.end_offset &&
         told.epoch == counted.epoch;
}

// A sealed segment in which nothing is wrong, read on its own: what the walk over the log would
// find there, if it came to `begin`.
struct SoundSegment {
  WalkPoint begin;
  WalkPoint end;
  Sequence durable_mark = 0;
  SegmentReport counts;
};

// Nothing where there is anything to be told of it.
std::optional<SoundSegment> check_alone(io::Directory& directory, const LogId& log_id,
                                        const SegmentFile& file) {
  auto segment = SegmentReader::open(directory, file);
  if (!segment || !(*segment)->header_fits() || (*segment)->header()->log_id != log_id) {
    return std::nullopt;
  }
  const auto footer = (*segment)->footer();
  if (!footer || !*footer) {
    return std::nullopt;
  }
  const auto& header = *(*segment)->header();
  SoundSegment sound;
  sound.begin = {.place = {.segment_id = file.first,
                           .offset = header.first_offset,
                           .ring_base = header.ring_base,
                           .generation = header.generation},
                 .chain = {.next_sequence = header.first_sequence,
                           .epoch = header.epoch,
                           .time_ms = header.created_ms}};
  FrameWalker walker(directory, log_id, RingAccess::if_permitted, {file});
  walker.seek(sound.begin);
  SummaryBuilder summary(header.first_sequence);
  ValueBuffer value_buffer;
  while (walker.place().segment_id == file.first) {
    const auto read = walker.next();
    if (!read || !*read || (*read)->from_ring) {
      return std::nullopt;
    }
    const auto& frame = **read;
    if (has_records(frame) && !is_well_formed(frame, value_buffer)) {
      return std::nullopt;
    }
    summary.add(frame.header, frame.place.offset, frame.records);
    count(frame, sound.counts);
    sound.durable_mark = std::max(sound.durable_mark, frame.header.durable_mark);
  }
  if (!agrees(**footer, summary.summary())) {
    return std::nullopt;
  }
  sound.end = walker.point();
  return sound;
}

class Verifier {
 public:
  Verifier(io::Directory& directory, std::uint32_t threads)
      : directory_(directory), threads_(threads) {}

  Result<VerifyReport> run() {
    derived_ = NORI_TRY(read_derived_places(directory_, std::nullopt));  // before the log grows on
    listing_ = NORI_TRY(list_log(directory_));
    report_.foreign_files = listing_.foreign_files;
    std::erase(report_.foreign_files, kSnapshotsName);
    for (const auto& name : listing_.foreign_segments) {
      report_.foreign_files.push_back(name);
      add_damage(0, 0, 0, fmt::format("{} ends in .wal but is no segment of a log", name));
    }
    NORI_TRY(identify());
    if (report_.segments.empty()) {
      return std::move(report_);  // no header to go by
    }
    refuse_foreign(derived_, log_id_);
    FrameWalker walker(directory_, log_id_, RingAccess::if_permitted, listing_.segments);
    NORI_TRY(walker.refresh_ring());
    report_.ring_note = walker.ring_note();
    walker.seek(start_);
    check_sealed_segments();
    NORI_TRY(walk(walker));
    for (auto& segment : report_.segments) {
      report_.records += segment.records;
      report_.bytes += segment.bytes;
    }
    report_.first_sequence = report_.segments.front().first_sequence;
    report_.next_sequence = walker.chain().next_sequence;
    report_.durable_mark = std::min(report_.durable_mark, report_.next_sequence);
    return std::move(report_);
  }

 private:
  void add_damage(std::uint64_t segment_id, std::uint64_t offset, std::uint64_t bytes,
                  std::string reason) {
    report_.damages.push_back(
        {.segment_id = segment_id, .offset = offset, .bytes = bytes, .reason = std::move(reason)});
  }

  // A row for every file, the log's id, and where to begin.
  Result<void> identify() {
    if (listing_.segments.empty() && listing_.foreign_segments.empty()) {
      return make_error(ErrorCode::not_a_log, "{}: there is no log here",
                        directory_.path().string());
    }
    std::optional<SegmentHeader> first;
    std::vector<SegmentReport> rows;
    for (const auto& file : listing_.segments) {
      const auto segment = NORI_TRY(SegmentReader::open(directory_, file));
      const auto id = file.first;
      SegmentReport row;
      row.segment_id = id;
      row.last_segment_id = file.last;
      row.file = file.name();
      row.bytes = NORI_TRY(segment->size());
      if (!rows.empty() && id != rows.back().last_segment_id + 1) {
        add_damage(rows.back().last_segment_id + 1, 0, 0,
                   fmt::format("the segment is missing, but {} is there", row.file));
      }
      const auto& header = segment->header();
      if (!header && header.error().fault == HeaderFault::unsupported_version) {
        return make_error(ErrorCode::unsupported_version,
                          "{}: format version {} is newer than this library's {}; use a newer one",
                          (directory_.path() / row.file).string(), header.error().version,
                          kFormatVersion);
      }
      if (segment->header_fits() && (!first || first->log_id == header->log_id)) {
        row.first_sequence = row.end_sequence = header->first_sequence;
        if (!first) {
          first = *header;
        }
        if (const auto footer = NORI_TRY(segment->footer()); footer) {
          row.sealed = true;
          report_.durable_mark = std::max(report_.durable_mark, footer->durable_mark);
        }
        report_.durable_mark = std::max(report_.durable_mark, header->durable_mark);
      } else if (rows.empty() && listing_.segments.size() == 1 && id == 0 && !header &&
                 NORI_TRY(is_blank(*segment))) {
        return {};  // a creation that was cut short
      } else if (!first) {
        add_damage(id, 0, kSegmentHeaderBytes,
                   header ? "the header of another log or segment" : "bad segment header");
      }
      rows.push_back(std::move(row));
    }
    if (!first) {
      return {};
    }
    log_id_ = first->log_id;
    start_ = {.place = {.segment_id = first->first_segment,
                        .offset = first->first_offset,
                        .ring_base = first->ring_base,
                        .generation = first->generation},
              .chain = {.next_sequence = first->first_sequence,
                        .epoch = first->epoch,
                        .time_ms = first->created_ms}};
    report_.segments = std::move(rows);
    return {};
  }

  static Result<bool> is_blank(SegmentReader& segment) {
    const auto bytes_total = NORI_TRY(segment.size());
    for (std::uint64_t offset = kSegmentHeaderBytes; offset < bytes_total;) {
      const auto bytes = NORI_TRY(segment.view(offset, kMiB));
      if (bytes.empty()) {
        break;
      }
      if (!std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; })) {
        return false;
      }
      offset += bytes.size();
    }
    return true;
  }

  SegmentReport& row_of(std::uint64_t segment_id, Sequence first_sequence) {
    auto row =
        std::ranges::lower_bound(report_.segments, segment_id, {}, &SegmentReport::segment_id);
    if (row == report_.segments.end() || row->segment_id != segment_id) {
      // Only the ring has it so far, or it was made since the listing.
      SegmentReport added;
      added.segment_id = added.last_segment_id = segment_id;
      added.file = segment_name(segment_id);
      added.first_sequence = added.end_sequence = first_sequence;
      row = report_.segments.insert(row, std::move(added));
    }
    return *row;
  }

  // Each on its own, on as many threads as are wanted.
  void check_sealed_segments() {
    std::vector<SegmentFile> files;
    for (const auto& row : report_.segments) {
      if (const auto file = listing_.file_of(row.segment_id); file && row.sealed) {
        files.push_back(*file);
      }
    }
    const auto threads = std::min<std::size_t>(threads_, files.size());
    if (threads < 2) {
      return;
    }
    std::atomic<std::size_t> next{0};
    std::vector<std::optional<SoundSegment>> found(files.size());
    const auto work = [&] {
      for (std::size_t i = next++; i < files.size(); i = next++) {
        try {
          found[i] = check_alone(directory_, log_id_, files[i]);
        } catch (const std::bad_alloc&) {
          return;  // the walk over the log reads what is missing
        }
      }
    };
    {
      std::vector<std::jthread> others;
      const auto add_thread = [&] {
        try {
          others.emplace_back(work);
          return true;
        } catch (const std::system_error&) {
          return false;  // then with fewer
        }
      };
      while (others.size() + 1 < threads && add_thread()) {
      }
      work();
    }
    for (auto& segment : found) {
      if (segment) {
        const auto id = segment->begin.place.segment_id;
        sound_.emplace(id, *std::move(segment));
      }
    }
  }

  // Goes over a segment that was found to be sound, if the log leads to its begin.
  bool skip_sound(FrameWalker& walker) {
    const auto found = sound_.find(walker.place().segment_id);
    if (found == sound_.end()) {
      return false;
    }
    const auto& segment = found->second;
    const auto& place = walker.place();
    if ((place.offset != 0 && place.offset != segment.begin.place.offset) ||
        walker.chain().next_sequence != segment.begin.chain.next_sequence ||
        walker.chain().epoch != segment.begin.chain.epoch) {
      return false;
    }
    auto& row = row_of(place.segment_id, segment.begin.chain.next_sequence);
    row.records += segment.counts.records;
    row.frames += segment.counts.frames;
    row.end_sequence = segment.counts.end_sequence;
    row.bytes_padding += segment.counts.bytes_padding;
    report_.durable_mark = std::max(report_.durable_mark, segment.durable_mark);
    walker.seek(segment.end);
    sound_.erase(found);
    return true;
  }

  Result<void> walk(FrameWalker& walker) {
    for (;;) {
      if (skip_sound(walker)) {
        continue;
      }
      const auto before = walker.point();
      const auto frame = NORI_TRY(walker.next());
      if (frame) {
        NORI_TRY(take(before, *frame));
        continue;
      }
      if (NORI_TRY(stop(walker))) {
        return {};
      }
    }
  }

  Result<void> take(const WalkPoint& before, const WalkedFrame& frame) {
    if (summary_segment_id_ != frame.place.segment_id) {
      summary_segment_id_ = frame.place.segment_id;
      summary_ = SummaryBuilder(before.chain.next_sequence);
      summary_is_whole_ = true;
    }
    summary_.add(frame.header, frame.place.offset, frame.records);
    auto& row = row_of(frame.place.segment_id, before.chain.next_sequence);
    count(frame, row);
    if (frame.from_ring) {
      report_.records_in_ring += frame.records;
    }
    report_.durable_mark = std::max(report_.durable_mark, frame.header.durable_mark);
    if (has_records(frame) && !is_well_formed(frame, value_buffer_)) {
      add_damage(frame.place.segment_id, frame.place.offset, frame.header.frame_bytes(),
                 "the frame's records are malformed");
    }
    if (frame.header.kind == FrameKind::rotation) {
      return check_footer(frame.place);
    }
    return {};
  }

  // A footer may be missing, after a crash; one that is there tells the truth.
  Result<void> check_footer(const FramePlaceInLog& place) {
    // Without a file its frames are in the ring, or it was deleted meanwhile; another file than the
    // one they were read from is what was compacted meanwhile, or what it was made of.
    const auto segment_id = place.segment_id;
    const auto segment = NORI_TRY(SegmentReader::open_if_there(
        directory_, listing_.file_of(segment_id).value_or(segment_id)));
    if (segment == nullptr || !segment->header_fits() ||
        segment->header()->generation != place.generation || !summary_is_whole_) {
      return {};
    }
    const auto footer = NORI_TRY(segment->footer());
    if (!footer) {
      return {};
    }
    const auto& told = *footer;
    const auto& counted = summary_.summary();
    if (!agrees(told, counted)) {
      add_damage(segment_id, told.end_offset, NORI_TRY(segment->size()) - told.end_offset,
                 fmt::format("the footer tells of {} records in {} frames, but there are {} in {}",
                             told.records, told.frames, counted.records, counted.frames));
    }
    return {};
  }

  // No frame: the end (true), or damage, and the walker goes on behind it.
  Result<bool> stop(FrameWalker& walker) {
    const auto bad = walker.point();
    std::string why;
    std::uint64_t bytes_not_blank = 0;
    for (int look = 0; look < kLooksMax; ++look) {
      const auto listing = NORI_TRY(list_log(directory_));
      const auto behind = listing.behind(bad.place.segment_id);
      if (walker.segment_is_missing() &&
          (behind.size() == listing.segments.size() || listing.file_of(bad.place.segment_id))) {
        // Deleted or compacted since it was listed: to be begun anew.
        auto error = make_error(ErrorCode::io, "{}: {} was deleted while the log was read",
                                directory_.path().string(), segment_name(bad.place.segment_id));
        error.error().system_errno = ENOENT;
        return error;
      }
      NORI_TRY(walker.refresh_ring());
      auto mark = report_.durable_mark;
      if (walker.ring() != nullptr) {
        if (const auto in_ring = NORI_TRY(walker.ring()->mark()); in_ring) {
          mark = std::max(mark, in_ring->durable_mark);
        }
      }
      report_.durable_mark = mark;
      const auto findings = NORI_TRY(examine_tail(directory_, log_id_, walker, mark, behind));
      bytes_not_blank = findings.bytes_not_blank;
      why = findings.evidence;
      if (why.empty()) {
        why = evidence_in(derived_, bad.chain.next_sequence);
      }
      if (why.empty() && walker.segment_is_missing() && !behind.empty()) {
        why = fmt::format("{} is there", behind.front().name());
      }
      if (why.empty()) {
        report_.bytes_torn = bytes_not_blank;
        for (const auto& file : behind) {
          report_.bytes_torn += row_of(file.first, bad.chain.next_sequence).bytes;
        }
        return true;
      }
      if (NORI_TRY(walker.next())) {
        walker.seek(bad);
        return false;
      }
    }
    summary_is_whole_ = false;
    const auto next = NORI_TRY(find_next_frame(directory_, log_id_, bad));
    auto bytes = bytes_not_blank;
    if (next && next->place.segment_id == bad.place.segment_id) {
      bytes = next->place.offset - bad.place.offset;
    } else if (next && walker.segment() != nullptr) {
      const auto file_bytes = NORI_TRY(walker.segment()->size());
      bytes = file_bytes - std::min(bad.place.offset, file_bytes);
    }
    if (!walker.segment_is_missing() ||
        std::ranges::none_of(report_.damages, [&](const Damage& damage) {
          return damage.segment_id == bad.place.segment_id;
        })) {
      add_damage(bad.place.segment_id, bad.place.offset, bytes,
                 fmt::format("{}, but {}", walker.stop_reason(), why));
    }
    if (!next) {
      return true;
    }
    walker.seek(*next);
    return false;
  }

  io::Directory& directory_;
  std::uint32_t threads_;
  std::map<std::uint64_t, SoundSegment> sound_;
  std::vector<DerivedPlace> derived_;
  LogListing listing_;
  LogId log_id_;
  WalkPoint start_;
  VerifyReport report_;
  ValueBuffer value_buffer_;
  std::optional<std::uint64_t> summary_segment_id_;
  SummaryBuilder summary_;
  bool summary_is_whole_ = false;
};

}  // namespace

Result<VerifyReport> verify(const std::filesystem::path& path, io::FileSystem* file_system,
                            std::shared_ptr<EventListener> listener, std::uint32_t threads) {
  if (threads == 0) {
    threads = file_system == nullptr ? std::max(1U, std::thread::hardware_concurrency()) : 1;
  }
  EventQueue events(std::move(listener));
  auto& files = file_system != nullptr ? *file_system : io::posix_file_system();
  const auto directory = NORI_TRY(files.open_directory(path, false));
  for (int attempt = 0;; ++attempt) {
    auto report = Verifier(*directory, threads).run();
    // Beside a live writer a segment may go between its listing and its reading.
    if (!report && report.error().system_errno == ENOENT && attempt < kAttemptsMax) {
      continue;
    }
    if (report) {
      for (const auto& damage : report->damages) {
        events.post(DamageFound{.by = DamageFound::By::verify,
                                .segment_id = damage.segment_id,
                                .offset = damage.offset,
                                .reason = damage.reason});
        events.deliver();
      }
    }
    return report;
  }
}

}  // namespace nori
