#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "nori/error.h"
#include "nori/options.h"
#include "nori/wal.h"

namespace nori {

/// One place that is not as it was written.
struct Damage {
  std::uint64_t segment_id = 0;
  std::uint64_t offset = 0;
  /// Up to the next good frame, or to the end of what is damaged.
  std::uint64_t bytes = 0;
  std::string reason;
};

/// What one segment holds.
struct SegmentReport {
  std::uint64_t segment_id = 0;
  /// Of a compacted file; else the same.
  std::uint64_t last_segment_id = 0;
  std::string file;
  std::uint64_t bytes = 0;
  std::uint64_t records = 0;
  std::uint64_t frames = 0;
  std::uint64_t bytes_padding = 0;
  Sequence first_sequence = 0;
  Sequence end_sequence = 0;
  /// Whether it ends in a footer.
  bool sealed = false;
};

/// What reading and checking every byte of a log found.
struct VerifyReport {
  std::vector<SegmentReport> segments;
  std::uint64_t records = 0;
  std::uint64_t bytes = 0;
  std::uint64_t records_in_ring = 0;
  /// Why the ring was not read, and what that leaves out; empty if it was, or there is none.
  std::string ring_note;
  Sequence first_sequence = 0;
  Sequence next_sequence = 0;
  Sequence durable_mark = 0;
  /// A crash left a torn tail of this many bytes. Not damage.
  std::uint64_t bytes_torn = 0;
  std::vector<Damage> damages;
  /// Files in the directory that are not the log's. Left alone.
  std::vector<std::string> foreign_files;
};

/// Reads and checks everything in the log at `directory`, beside a live writer or without one,
/// changing nothing. Damage is in the report, not an error; `listener` is told of it as well, by
/// this thread, before the call returns. Sealed segments are read by `threads` threads, each with a
/// window of 256 KiB; 0 is one for each core, or one alone on a simulated disk.
///
/// Errors: `not_a_log`, `permission`, `unsupported_version`, `io`.
[[nodiscard]] Result<VerifyReport> verify(const std::filesystem::path& directory,
                                          io::FileSystem* file_system = nullptr,
                                          std::shared_ptr<EventListener> listener = nullptr,
                                          std::uint32_t threads = 0);

}  // namespace nori
