// Places in a log as people write them.

#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "nori/wal.h"

namespace nori::cli {

/// What parse_place takes, for --help.
inline constexpr std::string_view kPlaceSyntax = "SEG:OFF|seq:N|time:ISO";

/// The place that `text` names, or why it names none:
///
///   3:4096                         the frame that begins at offset 4096 of segment 3
///   seq:17                         the record with sequence 17
///   time:2026-01-31                the first record of that day or later, in UTC
///   time:2026-01-31T23:59:59.5Z    of that moment or later; the fraction may be left out, and an
///                                  offset from UTC such as +01:00 may stand for Z
[[nodiscard]] std::expected<ReadFrom, std::string> parse_place(std::string_view text);

/// The same without times.
[[nodiscard]] std::expected<ReadFrom, std::string> parse_exact_place(std::string_view text);

/// A time as above, without `time:` before it.
[[nodiscard]] std::expected<TimePoint, std::string> parse_time(std::string_view text);

}  // namespace nori::cli
