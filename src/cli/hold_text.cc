#include "cli/hold_text.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>

namespace nori::cli {

std::string time_text(TimePoint time) {
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(time)));
}

std::int64_t time_ms(TimePoint time) {
  return std::chrono::floor<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

std::string hold_text(const Hold& hold) {
  const auto who =
      hold.name.empty() ? std::string("a reader") : fmt::format("{} {}", hold.what, hold.name);
  if (hold.unreadable) {
    return fmt::format("{} cannot be read, so {} bytes are held back: {}", who, hold.bytes_held,
                       hold.unreadable->message);
  }
  return fmt::format("{} needs what is from seq:{} on: {} bytes are held back, since {}", who,
                     hold.position.sequence, hold.bytes_held, time_text(hold.since));
}

Json holds_json(const std::vector<Hold>& holds) {
  Json json = Json::array();
  for (const auto& hold : holds) {
    Json one;
    one["what"] = hold.what;
    one["name"] = hold.name;
    one["since_ms"] = time_ms(hold.since);
    one["sequence"] = hold.position.sequence;
    one["bytes"] = hold.bytes_held;
    one["unreadable"] = hold.unreadable ? Json(hold.unreadable->message) : Json(nullptr);
    json.push_back(std::move(one));
  }
  return json;
}

}  // namespace nori::cli
