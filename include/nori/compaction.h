// Compaction: what is left of old segments when only the newest record of each key counts.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nori/options.h"
#include "nori/position.h"

namespace nori {

struct CompactionOptions {
  /// Which records are kept.
  enum class Keep : std::uint8_t {
    /// The newest of each key in the range: for logs in which a record says everything of its key,
    /// and nothing of others. A tombstone, and a record that has expired, goes too
    /// where the range begins with the log and no kept snapshot is older than it: then nothing is
    /// left that it hides.
    newest_of_each_key,
    /// All: only padding goes.
    all,
  };
  Keep keep = Keep::newest_of_each_key;

  /// Segments with a record before `from`, or from `to` on, are left alone. Default: all.
  std::optional<Position> from = std::nullopt;
  std::optional<Position> to = std::nullopt;

  /// What finding the newest records may take, whatever the number of keys: 1 MiB or more. Where it
  /// is too little for all keys at once (44 bytes each), the segments are read more often.
  std::uint64_t memory_bytes = 64 * kMiB;

  /// Changes nothing unless so much of the bytes looked at is garbage: 0 to 1.
  double garbage_ratio_min = 0;

  /// Read and written; 0 is no limit.
  std::uint64_t bytes_per_second = 0;

  /// Only says what it would do.
  bool dry_run = false;
};

/// What a compaction has done, or would do.
struct CompactionReport {
  /// Segment files that were looked at, and what is in their place.
  std::uint64_t files_before = 0;
  std::uint64_t files_after = 0;
  std::uint64_t bytes_before = 0;
  std::uint64_t bytes_after = 0;
  std::uint64_t records_before = 0;
  std::uint64_t records_after = 0;
  /// Tombstones and expired records that went although they were the newest of their key.
  std::uint64_t tombstones_dropped = 0;
  /// The files made, by name.
  std::vector<std::string> files;
};

}  // namespace nori
