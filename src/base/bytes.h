// Bytes as the rest of the code sees them.

#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace nori {

using ByteView = std::span<const std::byte>;
using ByteSpan = std::span<std::byte>;

[[nodiscard]] inline ByteView as_byte_view(std::string_view text) noexcept {
  return std::as_bytes(std::span(text.data(), text.size()));
}

[[nodiscard]] inline std::string_view as_text(ByteView bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Rounded to a multiple of `unit`, which is a power of two.
[[nodiscard]] constexpr std::size_t round_up(std::size_t value, std::size_t unit) noexcept {
  return (value + unit - 1) & ~(unit - 1);
}
[[nodiscard]] constexpr std::size_t round_down(std::size_t value, std::size_t unit) noexcept {
  return value & ~(unit - 1);
}

}  // namespace nori
