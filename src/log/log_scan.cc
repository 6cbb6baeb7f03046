#include "log/log_scan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "base/make_error.h"
#include "base/try.h"
#include "log/tail_evidence.h"
#include "segment/segment_name.h"
#include "segment/segment_reader.h"

namespace nori {
namespace {

// How far apart checkpoints are: what recovery may write again without need.
constexpr std::uint64_t kCheckpointStrideBytes = 64 * 1024;
constexpr std::uint64_t kProgressStrideBytes = 8 * kMiB;
// How often a listing that changes under a read-only opening is read again.
constexpr int kAttemptsMax = 20;

std::string path_of(const io::Directory& directory, const SegmentFile& file) {
  return (directory.path() / file.name()).string();
}

class Scanner {
 public:
  Scanner(io::Directory& directory, LogScan& scan, RingAccess ring_access,
          const std::function<void(const RecoveryProgress&)>& on_progress)
      : directory_(directory), scan_(scan), ring_access_(ring_access), on_progress_(on_progress) {}

  Result<void> run(Verification verification) {
    // Before the log: beside a live writer it only grows, and what they name is in it already.
    scan_.derived = NORI_TRY(read_derived_places(directory_, std::nullopt));
    scan_.listing = NORI_TRY(list_log(directory_));
    if (files().empty() && scan_.listing.foreign_segments.empty()) {
      return no_segments();
    }
    if (NORI_TRY(creation_was_cut_short())) {
      scan_.blank = true;
      return {};
    }
    NORI_TRY(identify());
    refuse_foreign(scan_.derived, scan_.log_id);
    if (scan_.damage) {
      return {};
    }
    if (verification == Verification::tail && !scan_.listing.has_ring &&
        NORI_TRY(ends_in_close_frame())) {
      if (const auto evidence = evidence_in(scan_.derived, scan_.chain.next_sequence);
          !evidence.empty()) {
        damaged(scan_.end.segment_id, scan_.end.offset,
                fmt::format("the log was closed here, but {}", evidence));
      }
      return {};
    }
    walker_.emplace(directory_, scan_.log_id, ring_access_, files());
    NORI_TRY(walker_->refresh_ring());
    scan_.info.ring_note = walker_->ring_note();
    NORI_TRY(find_start(verification));
    if (scan_.damage) {
      return {};
    }
    return walk();
  }

  // Whether the walk ended at a segment of which there is no file.
  [[nodiscard]] bool ended_without_a_segment() {
    return walker_ && !scan_.info.closed_cleanly && walker_->segment_is_missing();
  }

  // Whether a segment came or went since run() began.
  Result<bool> files_have_changed() {
    return files_have_changed_ || NORI_TRY(list_log(directory_)).segments != files();
  }

 private:
  const std::vector<SegmentFile>& files() const { return scan_.listing.segments; }

  Result<void> no_segments() {
    if (scan_.listing.has_ring) {
      // A ring is made when the first segment is durable, and goes when the log is closed.
      return make_error(ErrorCode::damaged,
                        "{}: holds a log's ring, but no segment; restore them from a copy, or move "
                        "the ring away to begin anew",
                        directory_.path().string());
    }
    if (!scan_.derived.empty()) {
      return make_error(ErrorCode::damaged,
                        "{}: holds the {} {} of a log, but no segment; restore them from a copy, "
                        "or move it away to begin anew",
                        directory_.path().string(), scan_.derived.front().what,
                        scan_.derived.front().name);
    }
    if (!scan_.listing.foreign_files.empty()) {
      return make_error(ErrorCode::not_a_log,
                        "{}: holds {} and no segment of a log; name an empty "
                        "directory, or one that holds a log",
                        directory_.path().string(), scan_.listing.foreign_files.front());
    }
    scan_.blank = true;
    return {};
  }

  // Only a first segment's header can be half there: every later one was durable before its name.
  Result<bool> creation_was_cut_short() {
    if (scan_.listing.has_ring || !scan_.derived.empty() || files().size() != 1 ||
        files().front() != SegmentFile(0) || !scan_.listing.foreign_segments.empty()) {
      return false;
    }
    const auto segment = NORI_TRY(SegmentReader::open(directory_, 0));
    if (segment->header().has_value() ||
        segment->header().error().fault == HeaderFault::unsupported_version) {
      return false;
    }
    const auto file_bytes = NORI_TRY(segment->size());
    for (std::uint64_t offset = kSegmentHeaderBytes; offset < file_bytes;) {
      const auto bytes = NORI_TRY(segment->view(offset, kMiB));
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

  void damaged(std::uint64_t segment_id, std::uint64_t offset, std::string_view what) {
    scan_.info.corruption_detected = true;
    scan_.info.reason = what;
    scan_.damage = Error{
        .code = ErrorCode::damaged,
        .message = fmt::format("{} at offset {}: {}; open it read-only to read what lies before, "
                               "restore the file from "
                               "a copy, or move the damaged files away",
                               path_of(directory_, segment_id), offset, what),
        .position = Position{
            .segment_id = segment_id, .offset = offset, .sequence = scan_.chain.next_sequence}};
  }

  // The log's id, from the first header that is valid under its own name; and whether the names can
  // be a log's.
  Result<void> identify() {
    bool found = false;
    for (const auto& file : files()) {
      const auto segment = NORI_TRY(SegmentReader::open(directory_, file));
      if (segment->header_fits()) {
        scan_.log_id = segment->header()->log_id;
        found = true;
        break;
      }
      if (const auto& header = segment->header();
          !header && header.error().fault == HeaderFault::unsupported_version) {
        return make_error(
            ErrorCode::unsupported_version,
            "{}: format version {} is newer than this library's {}; use a newer library",
            path_of(directory_, file), header.error().version, kFormatVersion);
      }
    }
    if (!scan_.listing.foreign_segments.empty()) {
      return make_error(ErrorCode::damaged,
                        "{}: ends in .wal but is no segment of this log; move it away",
                        (directory_.path() / scan_.listing.foreign_segments.front()).string());
    }
    if (!found) {
      return make_error(ErrorCode::damaged,
                        "{} at offset 0: not a segment of a log, or its header is damaged; restore "
                        "it from a copy, or move it away",
                        path_of(directory_, files().front()));
    }
    for (std::size_t i = 1; i < files().size(); ++i) {
      if (files()[i].first != files()[i - 1].last + 1) {
        damaged(files()[i - 1].last + 1, 0,
                fmt::format("the segment is missing, but {} is there", files()[i].name()));
        break;
      }
    }
    return {};
  }

  Result<bool> ends_in_close_frame() {
    const auto segment = NORI_TRY(SegmentReader::open(directory_, files().back()));
    if (!segment->header_fits() || segment->header()->log_id != scan_.log_id) {
      return false;
    }
    auto close = NORI_TRY(segment->close_frame());
    if (!close) {
      return false;
    }
    const auto& header = *segment->header();
    scan_.closed_cleanly = true;
    scan_.end = {
        .segment_id = files().back().first, .offset = close->offset, .ring_base = header.ring_base};
    scan_.chain = {.next_sequence = close->header.first_sequence,
                   .epoch = close->header.epoch,
                   .time_ms = close->header.time_ms};
    scan_.rewrite_from = WalkPoint{.place = scan_.end, .chain = scan_.chain};
    scan_.end_segment = start_of(header);
    scan_.segments_to_rewrite = {scan_.end_segment};
    scan_.end_summary = SummaryBuilder(std::move(close->summary));
    scan_.end_summary.add(close->header, close->offset);
    scan_.end.offset += close->header.frame_bytes();
    scan_.durable_mark = scan_.chain.next_sequence;
    scan_.info.closed_cleanly = true;
    return true;
  }

  static SegmentStart start_of(const SegmentHeader& header) {
    return {.segment_id = header.first_segment,
            .first_sequence = header.first_sequence,
            .epoch = header.epoch,
            .first_offset = header.first_offset,
            .ring_base = header.ring_base,
            .created_ms = header.created_ms,
            .has_file = true,
            .is_compacted = header.is_compacted()};
  }

  // Behind the newest segment that has a footer, or at the first segment.
  Result<void> find_start(Verification verification) {
    if (verification == Verification::tail) {
      for (auto i = files().size(); i-- > 0;) {
        const auto segment = NORI_TRY(SegmentReader::open(directory_, files()[i]));
        if (!segment->header_fits() || segment->header()->log_id != scan_.log_id) {
          continue;
        }
        const auto footer = NORI_TRY(segment->footer());
        if (!footer) {
          continue;
        }
        scan_.chain = {.next_sequence = footer->end_sequence,
                       .epoch = footer->epoch,
                       .time_ms = footer->last_time_ms};
        scan_.durable_mark = footer->durable_mark;
        walker_->seek({.place = {.segment_id = files()[i].last + 1}, .chain = scan_.chain});
        scan_.end = walker_->place();
        return {};
      }
    }
    const auto segment = NORI_TRY(SegmentReader::open(directory_, files().front()));
    if (segment->header_fits()) {
      const auto& header = *segment->header();
      scan_.chain = {.next_sequence = header.first_sequence, .epoch = header.epoch, .time_ms = 0};
    }
    walker_->seek({.place = {.segment_id = files().front().first}, .chain = scan_.chain});
    scan_.end = walker_->place();
    if (!segment->header_fits() || segment->header()->log_id != scan_.log_id) {
      damaged(files().front().first, 0, "bad segment header");
    }
    return {};
  }

  Result<void> walk() {
    for (const auto& file : files()) {
      if (file.first >= walker_->place().segment_id) {
        const auto segment = NORI_TRY(SegmentReader::open(directory_, file));
        progress_.bytes_total += NORI_TRY(segment->size());
      }
    }
    if (walker_->ring() != nullptr) {
      if (const auto mark = NORI_TRY(walker_->ring()->mark()); mark) {
        scan_.durable_mark = std::max(scan_.durable_mark, mark->durable_mark);
      }
    }
    for (int quiet_rounds = 0;;) {
      const auto chain_before = walker_->chain();
      const auto frame = NORI_TRY(walker_->next());
      if (frame) {
        NORI_TRY(take(*frame, chain_before));
        quiet_rounds = 0;
        continue;
      }
      NORI_TRY(stop());
      // Beside a live writer the log may have grown past what looked bad: look again before
      // judging.
      if (!scan_.damage || ++quiet_rounds > 1) {
        break;
      }
      scan_.damage.reset();
      scan_.info.corruption_detected = false;
      scan_.info.reason.clear();
      auto listing = NORI_TRY(list_log(directory_));
      files_have_changed_ = files_have_changed_ || listing.segments != files();
      scan_.listing = std::move(listing);
    }
    report();
    return {};
  }

  Result<void> take(const WalkedFrame& frame, const FrameChain& chain_before) {
    if (scan_.segments_to_rewrite.empty() ||
        scan_.segments_to_rewrite.back().segment_id != frame.place.segment_id) {
      NORI_TRY(begin_segment(frame.place, chain_before));
    }
    if (scan_.segments_to_rewrite.back().is_compacted) {
      // Was durable as a whole before it had its name: nothing up to here is written again.
      checkpoints_.clear();
    } else {
      note_checkpoint(frame, chain_before);
    }
    ends_in_close_ = frame.header.kind == FrameKind::close && !frame.from_ring;
    scan_.durable_mark = std::max(scan_.durable_mark, frame.header.durable_mark);
    scan_.end_summary.add(frame.header, frame.place.offset, frame.records);
    auto& info = scan_.info;
    info.valid_records += frame.records;
    if (frame.from_ring) {
      info.records_from_ring += frame.records;
      scan_.bytes_from_ring += frame.header.frame_bytes();
    }
    if (frame.header.record_count != 0) {
      info.last_valid_position = Position{.segment_id = frame.place.segment_id,
                                          .offset = frame.place.offset,
                                          .sequence = frame.header.end_sequence() - 1};
    }
    progress_.bytes_read += frame.header.frame_bytes();
    if (on_progress_ && progress_.bytes_read >= progress_reported_ + kProgressStrideBytes) {
      progress_reported_ = progress_.bytes_read;
      on_progress_(progress_);
    }
    return {};
  }

  void note_checkpoint(const WalkedFrame& frame, const FrameChain& chain_before) {
    const bool is_far =
        checkpoints_.empty() || checkpoints_.back().place.segment_id != frame.place.segment_id ||
        frame.place.offset >= checkpoints_.back().place.offset + kCheckpointStrideBytes;
    // The ring's first frame is a checkpoint too: from it on the segment may hold nothing.
    const bool is_first_from_ring = frame.from_ring && !first_from_ring_;
    if (is_far || is_first_from_ring) {
      checkpoints_.push_back({.place = frame.place, .chain = chain_before});
    }
    if (is_first_from_ring) {
      first_from_ring_ = checkpoints_.size() - 1;
    }
  }

  Result<void> begin_segment(const FramePlaceInLog& first, const FrameChain& chain) {
    const auto id = first.segment_id;
    SegmentStart start{.segment_id = id,
                       .first_sequence = chain.next_sequence,
                       .epoch = chain.epoch,
                       .first_offset = first.offset,
                       .ring_base = first.ring_base,
                       .created_ms = chain.time_ms,
                       .has_file = false};
    const auto segment =
        NORI_TRY(SegmentReader::open_if_there(directory_, scan_.listing.file_of(id).value_or(id)));
    if (segment != nullptr && segment->header_fits() && segment->header()->log_id == scan_.log_id) {
      start = start_of(*segment->header());
      // A segment is made when all before it is durable.
      scan_.durable_mark = std::max(scan_.durable_mark, segment->header()->durable_mark);
    }
    if (!scan_.segments_to_rewrite.empty()) {
      scan_.segments_to_rewrite.back().summary = scan_.end_summary.summary();
    }
    scan_.segments_to_rewrite.push_back(start);
    scan_.end_summary = SummaryBuilder(chain.next_sequence);
    ++scan_.info.segments_scanned;
    return {};
  }

  // The walker found no frame: is that the end, a torn tail, or damage?
  Result<void> stop() {
    scan_.end = walker_->place();
    scan_.chain = walker_->chain();
    if (walker_->segment_is_missing() && NORI_TRY(has_file_now(scan_.end.segment_id))) {
      auto error = make_error(ErrorCode::io, "{}: segment {} was compacted while the log was read",
                              directory_.path().string(), scan_.end.segment_id);
      error.error().system_errno = ENOENT;  // to be begun anew
      return error;
    }
    if (scan_.segments_to_rewrite.empty() ||
        scan_.segments_to_rewrite.back().segment_id != scan_.end.segment_id) {
      NORI_TRY(begin_segment(scan_.end, scan_.chain));
    }
    scan_.end_segment = scan_.segments_to_rewrite.back();
    scan_.segments_behind_end = scan_.listing.behind(scan_.end.segment_id);
    // A close frame is durable once the file was trimmed behind it, not before.
    if (auto* segment = walker_->segment(); ends_in_close_ && segment != nullptr) {
      ends_in_close_ = NORI_TRY(segment->size()) == scan_.end.offset;
    }
    const auto findings = NORI_TRY(examine_tail(directory_, scan_.log_id, *walker_,
                                                scan_.durable_mark, scan_.segments_behind_end));
    scan_.bytes_behind_end = findings.bytes_not_blank;
    scan_.bytes_in_segments_behind = findings.bytes_in_segments_behind;
    scan_.bytes_behind_in_ring = findings.bytes_in_ring;
    const auto evidence = findings.evidence.empty()
                              ? evidence_in(scan_.derived, scan_.chain.next_sequence)
                              : findings.evidence;
    if (!evidence.empty()) {
      damaged(scan_.end.segment_id, scan_.end.offset,
              fmt::format("{}, but {}", walker_->stop_reason(), evidence));
    } else if (const auto* const place = furthest(scan_.derived); place != nullptr) {
      scan_.durable_mark = std::max(scan_.durable_mark, place->position.sequence);
    }
    return {};
  }

  Result<bool> has_file_now(std::uint64_t segment_id) {
    return NORI_TRY(list_log(directory_)).file_of(segment_id).has_value();
  }

  void report() {
    auto& info = scan_.info;
    if (!scan_.damage) {
      choose_rewrite();
      if (ends_in_close_ && scan_.bytes_behind_end == 0 && scan_.segments_behind_end.empty() &&
          !scan_.listing.has_ring) {
        scan_.closed_cleanly = info.closed_cleanly = true;
      }
      if (scan_.bytes_behind_end != 0 || !scan_.segments_behind_end.empty() ||
          scan_.bytes_behind_in_ring != 0) {
        info.torn_tail = true;
        info.bytes_truncated =
            scan_.bytes_behind_end + scan_.bytes_in_segments_behind + scan_.bytes_behind_in_ring;
        info.truncated_at = Position{.segment_id = scan_.end.segment_id,
                                     .offset = scan_.end.offset,
                                     .sequence = scan_.chain.next_sequence};
        info.reason = fmt::format("{}; nothing says that it had been durable: a torn tail",
                                  walker_->stop_reason());
      }
    }
    if (on_progress_) {
      on_progress_(progress_);
    }
  }

  // From the last checkpoint before which everything is provably durable, or from where the ring's
  // frames begin. Frames without records share their successor's sequence, so a checkpoint counts
  // only strictly below the mark.
  void choose_rewrite() {
    if (checkpoints_.empty()) {
      scan_.rewrite_from = WalkPoint{.place = scan_.end, .chain = scan_.chain};
    } else {
      std::size_t chosen = 0;
      for (std::size_t i = 0; i < checkpoints_.size(); ++i) {
        if (checkpoints_[i].chain.next_sequence < scan_.durable_mark) {
          chosen = i;
        }
      }
      scan_.rewrite_from = checkpoints_[std::min(chosen, first_from_ring_.value_or(chosen))];
    }
    std::erase_if(scan_.segments_to_rewrite, [&](const SegmentStart& start) {
      return start.segment_id < scan_.rewrite_from->place.segment_id;
    });
  }

  io::Directory& directory_;
  LogScan& scan_;
  const RingAccess ring_access_;
  const std::function<void(const RecoveryProgress&)>& on_progress_;
  std::optional<FrameWalker> walker_;
  std::vector<WalkPoint> checkpoints_;
  std::optional<std::size_t> first_from_ring_;
  bool ends_in_close_ = false;
  bool files_have_changed_ = false;
  RecoveryProgress progress_;
  std::uint64_t progress_reported_ = 0;
};

}  // namespace

Result<LogScan> scan_log(io::Directory& directory, Verification verification,
                         RingAccess ring_access,
                         const std::function<void(const RecoveryProgress&)>& on_progress) {
  const auto began = std::chrono::steady_clock::now();
  for (int attempt = 0;; ++attempt) {
    LogScan scan;
    Scanner scanner(directory, scan, ring_access, on_progress);
    const auto done = scanner.run(verification);
    if (!done) {
      // Beside a live writer a segment may go between its listing and its reading.
      if (done.error().system_errno == ENOENT && attempt < kAttemptsMax) {
        continue;
      }
      return std::unexpected(done.error());
    }
    // Beside a live writer nothing is judged at first sight, nor where segments came and went: a
    // listing may have missed a name, and a segment that was deleted is missing. Where all behind
    // it were deleted too, nothing says that there was more.
    if (attempt < kAttemptsMax &&
        ((scan.damage && attempt == 0) || ((scan.damage || scanner.ended_without_a_segment()) &&
                                           NORI_TRY(scanner.files_have_changed())))) {
      continue;
    }
    scan.info.next_sequence = scan.chain.next_sequence;
    scan.info.time_taken = std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::steady_clock::now() - began);
    return scan;
  }
}

}  // namespace nori
