#include "store/contents.h"

#include <chrono>

#include "format/record.h"

namespace nori {

std::int64_t ms_of(TimePoint time) noexcept {
  return std::chrono::floor<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

std::optional<TimePoint> expiry_of(const Item& item) {
  return item.may_expire() ? std::optional(time_point_of(item.expires_at_ms())) : std::nullopt;
}

StoreEntry entry_of(const Item& item, const Lives& lives) {
  return {.key = item.key(),
          .value = item.value(),
          .version = lives.version_of(item),
          .expires_at = expiry_of(item)};
}

}  // namespace nori
