// Integers in the byte order of every file of the log.

#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace nori {

static_assert(std::endian::native == std::endian::little,
              "stores and loads below copy memory as it is");

template <typename T>
inline void store_le(std::byte* to, T value) noexcept {
  std::memcpy(to, &value, sizeof(value));
}

template <typename T>
[[nodiscard]] inline T load_le(const std::byte* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

/// The low 48 bits of `value`.
inline void store_le48(std::byte* to, std::uint64_t value) noexcept {
  store_le(to, static_cast<std::uint32_t>(value));
  store_le(to + 4, static_cast<std::uint16_t>(value >> 32));
}

// In registers: eight bytes that were just stored as four and two wait for the cache.
[[nodiscard]] inline std::uint64_t load_le48(const std::byte* from) noexcept {
  return std::uint64_t{load_le<std::uint16_t>(from + 4)} << 32 | load_le<std::uint32_t>(from);
}

}  // namespace nori
