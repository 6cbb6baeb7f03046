// Compaction: sealed segments a to b become a-b.wal, with the records that are still wanted.
//
//   choose    sealed files with a footer: all in them is durable, and so is the next one's name
//   find      the newest record of each key in all of them (log/live_records.h)
//   group     files that together fill about one segment with what is left; a group that would not
//             become smaller stays as it is
//   write     a group aside, as compact.tmp; synced
//   replace   under the lock of deletions: renamed, directory synced; from then on the files in its
//             range are void; removed, directory synced
//
// The oldest group goes first: when a tombstone goes, everything that it hides is gone for good.
// Once a group with garbage was left as it is, no tombstone goes any more. A crash leaves
// compact.tmp, which is void, or void segments, which the next opening removes.

#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <mutex>
#include <vector>

#include "io/file_system.h"
#include "log/live_records.h"
#include "log/segment_range.h"
#include "nori/compaction.h"
#include "nori/error.h"
#include "segment/segment_files.h"

namespace nori {

/// How far others let a compaction go.
struct CompactionLimits {
  /// Consumers have passed what lies before it.
  Sequence compact_before = std::numeric_limits<Sequence>::max();
  /// No kept snapshot is older than a tombstone before it.
  Sequence drop_before = std::numeric_limits<Sequence>::max();
};

/// What a compaction needs of its log.
struct CompactionContext {
  io::Directory& directory;
  const LogId& log_id;
  WriteMode mode;
  /// Names of segments are removed with it held.
  std::mutex& delete_mutex;
  /// Segments from this one on are being written.
  std::function<std::uint64_t()> active_segment_id;
  /// Asked with delete_mutex held.
  std::function<Result<CompactionLimits>()> limits;
  /// Told of what was read and written; an error ends the compaction.
  CompactionStep step;
  std::uint64_t now_ms = 0;  ///< What expires before it has expired.
  std::uint64_t seed = 0;    ///< Of the keys' hashes.
  std::uint64_t target_bytes = 0;
};

/// On return each group is either replaced, durably, or as it was. Errors: `damaged`: a place in
/// the range is bad; `no_space`, `io`: those groups that were replaced stay so.
[[nodiscard]] Result<CompactionReport> compact_segments(const CompactionContext& context,
                                                        const CompactionOptions& options);

/// Removes files that others cover, once those are durable, and durably: before a covering file may
/// go itself.
[[nodiscard]] Result<void> remove_void_segments(io::Directory& directory,
                                                const LogListing& listing);

}  // namespace nori
