#include "cli/arguments.h"

#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <limits>
#include <optional>
#include <utility>

namespace nori::cli {

namespace {

// The number at the front of `text`, which is taken off it.
std::optional<std::uint64_t> take_number(std::string_view& text) {
  std::uint64_t number = 0;
  const auto [stopped_at, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) {
    return std::nullopt;
  }
  text.remove_prefix(static_cast<std::size_t>(stopped_at - text.data()));
  return number;
}

std::optional<std::uint64_t> unit_bytes(std::string_view unit) {
  if (unit.empty()) {
    return 1;
  }
  if (unit == "K" || unit == "KiB") {
    return kKiB;
  }
  if (unit == "M" || unit == "MiB") {
    return kMiB;
  }
  if (unit == "G" || unit == "GiB") {
    return kGiB;
  }
  return std::nullopt;
}

Parsed<std::uint64_t> parse_bytes_within(std::string_view text, std::uint64_t low,
                                         std::uint64_t high, std::string_view limits) {
  auto bytes = parse_bytes(text);
  if (bytes && (*bytes < low || *bytes > high)) {
    return std::unexpected(fmt::format("{} is not within {}", text, limits));
  }
  return bytes;
}

}  // namespace

Parsed<std::chrono::milliseconds> parse_duration(std::string_view text) {
  using std::chrono::milliseconds;
  constexpr std::pair<std::string_view, milliseconds> kUnits[] = {{"ms", milliseconds{1}},
                                                                  {"s", std::chrono::seconds{1}},
                                                                  {"m", std::chrono::minutes{1}},
                                                                  {"h", std::chrono::hours{1}},
                                                                  {"d", std::chrono::hours{24}}};
  std::string_view rest = text;
  if (const auto number = take_number(rest); number && *number != 0) {
    for (const auto& [unit, length] : kUnits) {
      if (rest == unit &&
          *number <= static_cast<std::uint64_t>(milliseconds::max().count() / length.count())) {
        return static_cast<std::int64_t>(*number) * length;
      }
    }
  }
  return std::unexpected(
      fmt::format("{} is no duration; write a number and ms, s, m, h or d", text));
}

Parsed<std::uint64_t> parse_bytes(std::string_view text) {
  std::string_view rest = text;
  const auto number = take_number(rest);
  const auto unit = unit_bytes(rest);
  if (!number || !unit || *number > std::numeric_limits<std::uint64_t>::max() / *unit) {
    return std::unexpected(
        fmt::format("{} is no size; write bytes, or a number and K, M or G", text));
  }
  return *number * *unit;
}

Parsed<std::uint64_t> parse_count(std::string_view text, std::uint64_t low) {
  std::string_view rest = text;
  const auto number = take_number(rest);
  if (!number || !rest.empty() || *number < low) {
    return std::unexpected(fmt::format("{} is no number from {} on", text, low));
  }
  return *number;
}

Parsed<FsyncPolicy> parse_fsync_policy(std::string_view text) {
  constexpr std::string_view kBatchPrefix = "batch=";
  constexpr std::uint64_t kWindowMsMax = 60'000;
  if (text == "always") {
    return FsyncPolicy::always();
  }
  if (text == "os") {
    return FsyncPolicy::os();
  }
  if (text == "batch") {
    return FsyncPolicy::batch();
  }
  if (text.starts_with(kBatchPrefix)) {
    std::string_view rest = text.substr(kBatchPrefix.size());
    const auto window_ms = take_number(rest);
    if (window_ms && rest.empty() && *window_ms <= kWindowMsMax) {
      return FsyncPolicy::batch(std::chrono::milliseconds(*window_ms));
    }
  }
  return std::unexpected(
      fmt::format("{} is no policy; write always, os, batch or batch=MS with at most {} ms", text,
                  kWindowMsMax));
}

Parsed<std::uint64_t> parse_segment_bytes(std::string_view text) {
  return parse_bytes_within(text, 64 * kKiB, 4 * kGiB, "64K to 4G");
}

Parsed<std::uint64_t> parse_ring_bytes(std::string_view text) {
  if (text == "none") {
    return WalOptions::kNoRing;
  }
  return parse_bytes_within(text, 64 * kKiB, kGiB, "64K to 1G (or none)");
}

}  // namespace nori::cli
