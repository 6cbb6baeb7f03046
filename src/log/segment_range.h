// Reads the records of several segments, one behind the other.

#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "format/frame_records.h"
#include "log/frame_walker.h"
#include "log/log_listing.h"
#include "nori/error.h"

namespace nori {

/// A file of the log, and what its header and footer say of it.
struct SealedFile {
  SegmentFile name;
  SegmentHeader header;
  SegmentSummary summary;  ///< Blank where it is not sealed.
  std::uint64_t bytes = 0;
};

/// Opens a file and reads its header and footer; nothing where one is missing or bad.
[[nodiscard]] Result<std::optional<SealedFile>> read_sealed_file(io::Directory& directory,
                                                                 const LogId& log_id,
                                                                 const SegmentFile& name);

/// A record, and the file it is in, by its index in the range.
struct RangeRecord {
  FrameRecord record;
  std::uint64_t epoch = 0;
  std::size_t file = 0;
  std::uint64_t index = 0;  ///< How many were read before it.
};

/// Where a range ends.
enum class RangeEnd : std::uint8_t {
  last_file,  ///< Behind the last frame of the last file: a place without a frame is damage.
  log_end,    ///< Where the log ends, which may be in the last file.
};

/// Walks files that follow each other.
///
/// Threads: one at a time. Lifetime: directory and files outlive it.
class SegmentRangeReader {
 public:
  SegmentRangeReader(io::Directory& directory, const LogId& log_id,
                     const std::vector<SealedFile>& files, RangeEnd end = RangeEnd::last_file);

  /// The next record, until the next call; nullptr behind the last one. Errors: `damaged`: a place
  /// in the range is bad. `io` with ENOENT: a file was deleted meanwhile.
  [[nodiscard]] Result<const RangeRecord*> next();

  /// The rotation frame at the end of the file last read.
  [[nodiscard]] const RotationPayload& rotation() const noexcept { return rotation_; }
  /// Bytes read so far.
  [[nodiscard]] std::uint64_t bytes_read() const noexcept { return bytes_read_; }

 private:
  io::Directory& directory_;
  const std::vector<SealedFile>& files_;
  const RangeEnd end_;
  FrameWalker walker_;
  FrameRecords records_;
  // Filled in where it stays: copies of it took some 8 % of a compaction.
  RangeRecord record_;
  std::size_t file_ = 0;
  std::uint64_t records_read_ = 0;
  RotationPayload rotation_;
  std::uint64_t bytes_read_ = 0;
};

}  // namespace nori
