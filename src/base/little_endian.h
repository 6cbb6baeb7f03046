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
inline void store_le48(std::byte* to, std::uint64_t value) noexcept { std::memcpy(to, &value, 6); }

[[nodiscard]] inline std::uint64_t load_le48(const std::byte* from) noexcept {
  std::uint64_t value = 0;
  std::memcpy(&value, from, 6);
  return value;
}

}  // namespace nori
