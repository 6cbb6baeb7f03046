// What was made from a log and names a place in it. Nothing of the kind becomes durable before the
// log is durable up to that place. So a log that ends before one of them is damaged
// (docs/recovery.md#evidence), and what lies behind the lowest of them is still needed.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/log_id.h"
#include "io/file_system.h"
#include "nori/error.h"
#include "nori/position.h"

namespace nori {

inline constexpr std::string_view kCursorWhat = "cursor";
inline constexpr std::string_view kSnapshotWhat = "snapshot";

struct DerivedPlace {
  std::string_view what;  ///< kCursorWhat or kSnapshotWhat.
  std::string name;
  LogId log_id;
  Position position;
  std::uint64_t since_ms = 0;       ///< Since when it stands there.
  std::uint64_t lag_bytes_max = 0;  ///< It may be dropped when it holds back more; 0: never.
  /// Why it could not be read: then nobody knows what it needs, and it proves nothing.
  std::optional<Error> unreadable;
};

/// All there are in a log's directory, snapshots that are not valid left out: they serve nobody.
/// Makes nothing. With `log_id`, those of another log are unreadable.
[[nodiscard]] Result<std::vector<DerivedPlace>> read_derived_places(
    io::Directory& directory, const std::optional<LogId>& log_id);

/// Makes those of another log unreadable.
void refuse_foreign(std::vector<DerivedPlace>& places, const LogId& log_id);

/// The furthest one that can be read; nullptr without one.
[[nodiscard]] const DerivedPlace* furthest(const std::vector<DerivedPlace>& places);

/// Why a log that ends at `next_sequence` is not whole, in words; empty if none of them says so.
[[nodiscard]] std::string evidence_in(const std::vector<DerivedPlace>& places,
                                      Sequence next_sequence);

}  // namespace nori
