// Which records of a range of segments are the newest of their key, in bounded memory.

#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "io/file_system.h"
#include "log/segment_range.h"
#include "nori/error.h"

namespace nori {

/// What the newest record of a key may be dropped for.
struct DropRule {
  /// A tombstone or an expired record before this sequence hides nothing.
  Sequence before = 0;
  /// What expires before it has expired.
  std::uint64_t now_ms = 0;
};

/// The records that are left, by their place in the range: the first one is 0. (Not by sequence: of
/// those a few bytes can claim many.)
struct LiveRecords {
  std::vector<bool> is_live;
  std::vector<bool> is_dropped;  ///< The newest of its key, but gone by the DropRule.
  struct FileTotals {
    std::uint64_t records = 0;  ///< Left.
    std::uint64_t bytes = 0;    ///< Of those, as stored.
    std::uint64_t dropped = 0;  ///< By the DropRule.
    std::uint64_t dropped_bytes = 0;
    std::uint64_t records_all = 0;
    std::uint64_t bytes_all = 0;
    std::uint64_t tombstones_all = 0;
  };
  std::vector<FileTotals> files;
};

/// Told of what was read since; an error ends the search with it.
using CompactionStep = std::function<Result<void>(std::uint64_t bytes)>;

/// Reads the range as often as `memory_bytes` makes needed: once, if that is 44 bytes for each key.
/// Keys are told apart by 128 bits of XXH3 under a seed drawn for the purpose. Two bits for each
/// record come on top. Errors as SegmentRangeReader::next().
[[nodiscard]] Result<LiveRecords> find_live_records(io::Directory& directory, const LogId& log_id,
                                                    const std::vector<SealedFile>& files,
                                                    const DropRule& rule,
                                                    std::uint64_t memory_bytes, std::uint64_t seed,
                                                    const CompactionStep& step,
                                                    RangeEnd end = RangeEnd::last_file);

}  // namespace nori
