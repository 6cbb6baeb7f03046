// Finds where a walk has to begin to come to a sequence, a time or a place.

#pragma once

#include <cstdint>
#include <optional>

#include "format/log_id.h"
#include "io/file_system.h"
#include "log/frame_walker.h"
#include "log/log_listing.h"
#include "nori/error.h"
#include "nori/wal.h"

namespace nori {

/// Looks at headers, footers and their indexes; walks frames where there is no index. Beside a live
/// writer a segment may go meanwhile: then it looks again.
///
/// Threads: one at a time. Lifetime: the directory outlives it.
class LogSeeker {
 public:
  LogSeeker(io::Directory& directory, const LogId& log_id, RingAccess ring_access)
      : directory_(directory), log_id_(log_id), ring_access_(ring_access) {}

  /// The first segment's first frame. Errors: `damaged`, if its header is; `not_a_log`, without
  /// one.
  [[nodiscard]] Result<WalkPoint> begin();
  /// A frame at or before the one that holds `sequence`. Errors: `gone`, and as begin().
  [[nodiscard]] Result<WalkPoint> at_sequence(Sequence sequence);
  /// A frame before the first one of `time_ms` or later, or that one. Errors as begin().
  [[nodiscard]] Result<WalkPoint> at_time(std::uint64_t time_ms);
  /// The frame that begins there. Errors: `gone`, `not_a_record`, and as begin().
  [[nodiscard]] Result<WalkPoint> at_place(const FramePlace& place);

  /// The log's files when it last looked: those that its answer is about.
  [[nodiscard]] const std::vector<SegmentFile>& files() const noexcept { return files_; }

 private:
  template <typename Find>
  [[nodiscard]] Result<WalkPoint> find_in_listing(Find find);
  template <typename Before>
  [[nodiscard]] Result<WalkPoint> point_in_segment(SegmentReader& segment, Before before);
  [[nodiscard]] Result<std::unique_ptr<SegmentReader>> open_first(const SegmentFile& file);
  template <typename Before>
  [[nodiscard]] Result<std::unique_ptr<SegmentReader>> last_segment_before(
      const std::vector<SegmentFile>& files, Before before);
  [[nodiscard]] std::unexpected<Error> gone(std::string_view what, const SegmentHeader& first);

  io::Directory& directory_;
  LogId log_id_;
  RingAccess ring_access_;
  std::vector<SegmentFile> files_;
};

/// Where frames go on behind a bad place: the next valid frame of the chain's epoch or a later one
/// in that segment, else the next segment's beginning; nothing if there is neither.
[[nodiscard]] Result<std::optional<WalkPoint>> find_next_frame(io::Directory& directory,
                                                               const LogId& log_id,
                                                               const WalkPoint& bad);

}  // namespace nori
