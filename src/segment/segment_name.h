// The names of a log's files. A segment is 000000.wal, 000001.wal, ... (six digits or more); no
// other file of a log ends in .wal.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nori {

inline constexpr std::string_view kSegmentSuffix = ".wal";
inline constexpr std::string_view kNextSegmentName = "next.tmp";  ///< A segment being prepared.
inline constexpr std::string_view kRingName = "ring";
inline constexpr std::string_view kNewRingName = "ring.tmp";
inline constexpr std::string_view kProbeName = "probe.tmp";  ///< Tries what the disk takes.
inline constexpr std::string_view kLockName = "lock";
inline constexpr std::string_view kQuarantineName = "quarantine";
inline constexpr std::string_view kCursorsName = "cursors";           ///< A directory.
inline constexpr std::string_view kCursorsLockName = "cursors.lock";  ///< src/cursor/cursor_files.h

[[nodiscard]] std::string segment_name(std::uint64_t segment_id);

/// The id, if `name` is the name of a segment: segment_name() of it.
[[nodiscard]] std::optional<std::uint64_t> parse_segment_name(std::string_view name);

/// Whether a log may leave a file of this name.
[[nodiscard]] bool is_log_file_name(std::string_view name);

}  // namespace nori
