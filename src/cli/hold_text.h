// Who keeps segments from being deleted, in words and in JSON.

#pragma once

#include <string>
#include <vector>

#include "cli/json_text.h"
#include "nori/wal.h"

namespace nori::cli {

/// "consumer billing needs what is from seq:17 on: it holds back 4096 bytes, since ..."
[[nodiscard]] std::string hold_text(const Hold& hold);
[[nodiscard]] Json holds_json(const std::vector<Hold>& holds);

/// "2026-01-31T23:59:59Z"
[[nodiscard]] std::string time_text(TimePoint time);
[[nodiscard]] std::int64_t time_ms(TimePoint time);

}  // namespace nori::cli
