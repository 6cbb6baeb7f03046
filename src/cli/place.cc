#include "cli/place.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <cstdint>
#include <optional>

namespace nori::cli {

namespace {

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stopped_at, error] = std::from_chars(text.data(), end, number);
  if (text.empty() || error != std::errc{} || stopped_at != end) {
    return std::nullopt;
  }
  return number;
}

// Takes a time apart from its front. Once something is not as expected, so is all that follows.
class TimeText {
 public:
  explicit TimeText(std::string_view text) : rest_(text) {}

  [[nodiscard]] bool good() const { return good_; }
  [[nodiscard]] bool at_end() const { return rest_.empty(); }

  // Exactly `count` digits, as a number from `low` to `high`.
  int number(std::size_t count, int low, int high) {
    int value = 0;
    for (std::size_t i = 0; i < count; ++i) {
      value = value * 10 + digit();
    }
    good_ = good_ && value >= low && value <= high;
    return value;
  }

  // One or more digits behind a point. What is below a nanosecond is dropped.
  std::chrono::nanoseconds fraction() {
    std::int64_t nanoseconds = 0;
    std::int64_t unit = 100'000'000;
    do {
      nanoseconds += unit * digit();
      unit /= 10;
    } while (good_ && !rest_.empty() && is_digit(rest_.front()));
    return std::chrono::nanoseconds(nanoseconds);
  }

  // Takes the next character if it is one of these.
  bool take(std::string_view any_of) {
    if (!good_ || rest_.empty() || any_of.find(rest_.front()) == std::string_view::npos) {
      return false;
    }
    rest_.remove_prefix(1);
    return true;
  }
  void expect(std::string_view any_of) { good_ = take(any_of) && good_; }

 private:
  static bool is_digit(char character) { return character >= '0' && character <= '9'; }

  int digit() {
    good_ = good_ && !rest_.empty() && is_digit(rest_.front());
    if (!good_) {
      return 0;
    }
    const int value = rest_.front() - '0';
    rest_.remove_prefix(1);
    return value;
  }

  std::string_view rest_;
  bool good_ = true;
};

// A day, or a day, a time and where that time holds (RFC 3339).
std::optional<TimePoint> find_time(std::string_view text) {
  using namespace std::chrono;
  TimeText parts(text);
  // The years a TimePoint can hold, from the one a log can.
  const int year_number = parts.number(4, 1970, 2261);
  parts.expect("-");
  const int month_number = parts.number(2, 1, 12);
  parts.expect("-");
  const int day_number = parts.number(2, 1, 31);
  const year_month_day date = year{year_number} / month{static_cast<unsigned>(month_number)} /
                              day{static_cast<unsigned>(day_number)};
  if (!parts.good() || !date.ok()) {
    return std::nullopt;
  }
  TimePoint time = sys_days{date};
  if (parts.at_end()) {
    return time;
  }
  parts.expect("Tt ");
  time += hours(parts.number(2, 0, 23));
  parts.expect(":");
  time += minutes(parts.number(2, 0, 59));
  parts.expect(":");
  time += seconds(parts.number(2, 0, 59));
  if (parts.take(".")) {
    time += parts.fraction();
  }
  if (!parts.take("Zz")) {
    const bool is_behind = parts.take("-");
    if (!is_behind) {
      parts.expect("+");
    }
    minutes offset = hours(parts.number(2, 0, 23));
    parts.expect(":");
    offset += minutes(parts.number(2, 0, 59));
    time -= is_behind ? -offset : offset;
  }
  return parts.good() && parts.at_end() ? std::optional(time) : std::nullopt;
}

}  // namespace

std::expected<ReadFrom, std::string> parse_place(std::string_view text) {
  constexpr std::string_view kTimePrefix = "time:";
  if (text.starts_with(kTimePrefix)) {
    if (const auto time = find_time(text.substr(kTimePrefix.size()))) {
      return *time;
    }
    return std::unexpected(
        fmt::format("{} is no time; write time:2026-01-31 or time:2026-01-31T23:59:59Z", text));
  }
  auto place = parse_exact_place(text);
  if (!place) {
    return std::unexpected(
        fmt::format("{} is no place; write SEGMENT:OFFSET, seq:N or time:ISO", text));
  }
  return place;
}

std::expected<TimePoint, std::string> parse_time(std::string_view text) {
  if (const auto time = find_time(text)) {
    return *time;
  }
  return std::unexpected(
      fmt::format("{} is no time; write 2026-01-31 or 2026-01-31T23:59:59Z", text));
}

std::expected<ReadFrom, std::string> parse_exact_place(std::string_view text) {
  const auto colon = text.find(':');
  if (colon != std::string_view::npos) {
    const std::string_view front = text.substr(0, colon);
    const auto second = parse_number(text.substr(colon + 1));
    if (front == "seq" && second) {
      return Sequence{*second};
    }
    const auto first = parse_number(front);
    if (first && second) {
      return FramePlace{.segment_id = *first, .offset = *second};
    }
  }
  return std::unexpected(fmt::format("{} is no place; write SEGMENT:OFFSET or seq:N", text));
}

}  // namespace nori::cli
