// The names of a log's files. A segment is 000000.wal, 000001.wal, ... (six digits or more), and
// 000003-000007.wal what compaction made of segments 3 to 7; no other file of a log ends in .wal.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nori {

inline constexpr std::string_view kSegmentSuffix = ".wal";
inline constexpr std::string_view kCompactionName = "compact.tmp";  ///< One being compacted.
inline constexpr std::string_view kNextSegmentName = "next.tmp";    ///< A segment being prepared.
inline constexpr std::string_view kRingName = "ring";
inline constexpr std::string_view kNewRingName = "ring.tmp";
inline constexpr std::string_view kProbeName = "probe.tmp";  ///< Tries what the disk takes.
inline constexpr std::string_view kLockName = "lock";
inline constexpr std::string_view kQuarantineName = "quarantine";
inline constexpr std::string_view kCursorsName = "cursors";           ///< A directory.
inline constexpr std::string_view kCursorsLockName = "cursors.lock";  ///< src/cursor/cursor_files.h

[[nodiscard]] std::string segment_name(std::uint64_t segment_id);

/// A file of frames, as its name says: a segment as it was written, or the range of segments that
/// compaction made one file of.
struct SegmentFile {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  bool is_compacted = false;

  SegmentFile() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): a segment's id names its file.
  SegmentFile(std::uint64_t segment_id) : first(segment_id), last(segment_id) {}
  [[nodiscard]] static SegmentFile compacted(std::uint64_t first, std::uint64_t last) {
    SegmentFile file(first);
    file.last = last;
    file.is_compacted = true;
    return file;
  }

  [[nodiscard]] std::string name() const;
  [[nodiscard]] bool covers(std::uint64_t segment_id) const noexcept {
    return first <= segment_id && segment_id <= last;
  }
  friend bool operator==(const SegmentFile&, const SegmentFile&) = default;
};

/// The file, if `name` is the name of one: name() of it.
[[nodiscard]] std::optional<SegmentFile> parse_segment_name(std::string_view name);

/// Whether a log may leave a file of this name.
[[nodiscard]] bool is_log_file_name(std::string_view name);

}  // namespace nori
