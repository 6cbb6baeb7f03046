// What a log's directory holds, by its names.
//
// Files of a log, and what a crash may leave of them:
//   NNNNNN.wal   a segment. Its header and name were durable before a frame of it was acknowledged.
//                The newest may end in a torn tail, or in space that was reserved and never
//                written.
//   NNNNNN-MMMMMM.wal   what compaction made of segments N to M, durable as a whole before it had
//                its name. Files of segments in that range that are still there are void.
//   compact.tmp  one being written: void until renamed.
//   next.tmp     a segment being prepared: void until renamed.
//   ring         the newest frames. Gone after a clean close. Any page of it may be old after a
//                power cut: only frames that continue the log count.
//   ring.tmp     a ring being prepared; probe.tmp, a trial of what the disk takes: void.
//   lock         held by the writer; never removed.
//   cursors/, cursors.lock   the places of consumers (cursor/cursor_files.h).
//   snapshots/   images of a state (snapshot/snapshot_files.h).
//   quarantine/  what recovery cut.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/file_system.h"
#include "nori/error.h"
#include "segment/segment_name.h"

namespace nori {

/// The names in a log's directory.
struct LogListing {
  std::vector<SegmentFile> segments;       ///< Ascending, without those that another one covers.
  std::vector<std::string> void_segments;  ///< Those, oldest first: a compaction cut short.
  std::vector<std::string> void_files;     ///< next.tmp and the like.
  bool has_ring = false;
  std::vector<std::string> foreign_segments;  ///< Names in .wal that are no segment's.
  std::vector<std::string> foreign_files;     ///< All other names that are not a log's.

  /// The file that holds a segment.
  [[nodiscard]] std::optional<SegmentFile> file_of(std::uint64_t segment_id) const;
  /// Those behind a segment.
  [[nodiscard]] std::vector<SegmentFile> behind(std::uint64_t segment_id) const;
};
[[nodiscard]] Result<LogListing> list_log(io::Directory& directory);

}  // namespace nori
