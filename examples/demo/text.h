// Numbers as the demo prints them.

#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

namespace demo {

/// 1234567 as "1,234,567".
inline std::string grouped(std::uint64_t number) {
  const auto digits = std::to_string(number);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) {
      text += ',';
    }
    text += digits[i];
  }
  return text;
}

/// With one digit behind the point.
inline std::string decimal(double number) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.1f", number);
  return text;
}

inline std::string in_megabytes(std::uint64_t bytes) {
  return decimal(static_cast<double>(bytes) / 1e6) + " MB";
}

inline double in_milliseconds(std::chrono::nanoseconds time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

/// How many a second, rounded.
inline std::uint64_t rate(std::uint64_t count, std::chrono::nanoseconds time) {
  return static_cast<std::uint64_t>(static_cast<double>(count) /
                                    std::chrono::duration<double>(time).count());
}

}  // namespace demo
