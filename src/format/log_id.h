// What binds bytes to one place in one life of one log.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/little_endian.h"

namespace nori {

/// What counts along a log - records, segments, bytes - is at most that where it is read, so that
/// sums of it do not wrap and no number is taken for "never".
inline constexpr std::uint64_t kCountMax = (std::uint64_t{1} << 63) - 1;

/// Names a log for ever: 128 random bits, drawn when it is created.
struct LogId {
  std::array<std::byte, 16> bytes{};
  friend bool operator==(const LogId&, const LogId&) = default;
};

/// The part of a checksum's seed that a whole segment shares.
[[nodiscard]] inline std::uint32_t segment_seed(const LogId& log_id, std::uint32_t generation,
                                                std::uint64_t segment_id) noexcept {
  std::array<std::byte, 28> bytes;
  std::copy(log_id.bytes.begin(), log_id.bytes.end(), bytes.begin());
  store_le(&bytes[16], generation);
  store_le(&bytes[20], segment_id);
  return crc32c(0, bytes);
}

/// The seed of what stands at `offset` of the segment.
[[nodiscard]] inline std::uint32_t place_seed(std::uint32_t segment_seed,
                                              std::uint64_t offset) noexcept {
  // Fibonacci hashing: cheap, and neighbouring offsets get unlike seeds.
  return segment_seed ^ static_cast<std::uint32_t>((offset * 0x9E3779B97F4A7C15U) >> 32);
}

}  // namespace nori
