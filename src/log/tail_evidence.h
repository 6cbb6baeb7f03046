// Torn or damaged: what lies behind the place where a log's frames stop
// (docs/recovery.md#evidence).

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "format/frame.h"
#include "io/file_system.h"
#include "log/frame_walker.h"
#include "log/log_listing.h"
#include "nori/error.h"

namespace nori {

/// What was found behind the end.
struct TailFindings {
  /// Why what is bad at the end had been durable, in words; empty if nothing says so.
  std::string evidence;
  /// Bytes from the end to the last one in its segment that is not blank. Frames of another life of
  /// the log count as blank.
  std::uint64_t bytes_not_blank = 0;
  /// What else is cut: in the segments behind, and in the ring, where frames of the chain's epoch
  /// do not continue it.
  std::uint64_t bytes_in_segments_behind = 0;
  std::uint64_t bytes_in_ring = 0;
};

/// Looks for evidence that the frame which `walker` does not find had been durable: in the rest of
/// its segment, in the segments behind it and in the ring. Reads headers only, in linear time.
/// `mark` is the highest durable mark seen so far.
[[nodiscard]] Result<TailFindings> examine_tail(io::Directory& directory, const LogId& log_id,
                                                FrameWalker& walker, Sequence mark,
                                                const std::vector<SegmentFile>& segments_behind);

}  // namespace nori
