// The cursor by which a store holds its log back, also from those who do not know that it is one.

#pragma once

#include <optional>
#include <string_view>

#include "nori/consumer.h"
#include "nori/wal.h"

namespace nori {

inline constexpr std::string_view kStoreCursorName = "nori.store";

/// Of the valid snapshots the oldest one's; nothing without one.
[[nodiscard]] Result<std::optional<Sequence>> oldest_snapshot(const Wal& wal);

/// The cursor, made where there is none. On return it stands, durably, at the oldest snapshot, or
/// at the log's beginning. Errors: as Wal::consumer's.
[[nodiscard]] Result<Consumer> take_store_cursor(Wal& wal);

}  // namespace nori
