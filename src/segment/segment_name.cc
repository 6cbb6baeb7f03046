#include "segment/segment_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace nori {

std::string segment_name(std::uint64_t segment_id) {
  return fmt::format("{:06}{}", segment_id, kSegmentSuffix);
}

std::optional<std::uint64_t> parse_segment_name(std::string_view name) {
  if (!name.ends_with(kSegmentSuffix)) {
    return std::nullopt;
  }
  const auto digits = name.substr(0, name.size() - kSegmentSuffix.size());
  std::uint64_t id = 0;
  const auto [end, fault] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
  if (fault != std::errc{} || end != digits.data() + digits.size() || segment_name(id) != name) {
    return std::nullopt;
  }
  return id;
}

bool is_log_file_name(std::string_view name) {
  constexpr std::array kNames{kNextSegmentName, kRingName,       kNewRingName, kProbeName,
                              kLockName,        kQuarantineName, kCursorsName, kCursorsLockName};
  return std::ranges::find(kNames, name) != kNames.end() || parse_segment_name(name).has_value();
}

}  // namespace nori
