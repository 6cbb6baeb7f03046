// How much of a log is garbage: what compaction, or a snapshot, could take.

#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "nori/error.h"
#include "nori/options.h"

namespace nori {

/// Of one segment file. A record is live if it is the newest of its key in the whole log, a put,
/// and has not expired.
struct SegmentGarbage {
  std::uint64_t segment_id = 0;
  std::string file;
  std::uint64_t records = 0;
  std::uint64_t records_live = 0;
  /// As stored, without frames and padding.
  std::uint64_t bytes = 0;
  std::uint64_t bytes_live = 0;
  std::uint64_t tombstones = 0;
};

/// Reads all records of the log in `directory`, those of a ring included; beside a live writer
/// those that were there. `memory_bytes` as in CompactionOptions. Errors: `not_a_log`, `io`,
/// `damaged`: a place before the end is bad.
[[nodiscard]] Result<std::vector<SegmentGarbage>> find_garbage(
    const std::filesystem::path& directory, io::FileSystem* file_system = nullptr,
    std::uint64_t memory_bytes = 64 * kMiB);

}  // namespace nori
