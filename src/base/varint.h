// LEB128: 7 bits a byte, lowest first, the top bit set on all but the last. Only the shortest form
// of a number is valid.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nori {

inline constexpr std::size_t kVarintBytesMax = 10;

/// Writes `value` and returns the byte behind it.
inline std::byte* store_varint(std::byte* to, std::uint64_t value) noexcept {
  while (value >= 0x80) {
    *to++ = static_cast<std::byte>(value | 0x80);
    value >>= 7;
  }
  *to++ = static_cast<std::byte>(value);
  return to;
}

/// Reads a number from the front of [from, end) into `value` and returns the byte behind it;
/// nullptr if there is none, or not in its shortest form.
[[nodiscard]] inline const std::byte* load_varint(const std::byte* from, const std::byte* end,
                                                  std::uint64_t& value) noexcept {
  if (from != end && std::to_integer<std::uint8_t>(*from) < 0x80) [[likely]] {
    value = std::to_integer<std::uint8_t>(*from);
    return from + 1;
  }
  value = 0;
  for (unsigned shift = 0; shift < 64 && from != end; shift += 7) {
    const auto byte = static_cast<std::uint64_t>(*from++);
    if (shift == 63 && byte > 1) {
      return nullptr;  // more than 64 bits
    }
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) {
      return byte == 0 && shift != 0 ? nullptr : from;
    }
  }
  return nullptr;
}

}  // namespace nori
