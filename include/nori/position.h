#pragma once

#include <compare>
#include <cstdint>

namespace nori {

/// A record's number: dense from 0 along the log.
using Sequence = std::uint64_t;

/// A place in the log. The sequence alone says which record; segment and offset (of the frame that
/// holds it) say where to look first.
struct Position {
  std::uint64_t segment_id = 0;
  /// In bytes from the start of the segment's file.
  std::uint64_t offset = 0;
  Sequence sequence = 0;

  friend constexpr bool operator==(const Position& a, const Position& b) noexcept {
    return a.sequence == b.sequence;
  }
  friend constexpr std::strong_ordering operator<=>(const Position& a, const Position& b) noexcept {
    return a.sequence <=> b.sequence;
  }
};

/// One opening of the log that wrote something: a number that only rises, and random bits that
/// tell two lives of one log apart. Epoch and sequence together name a record for ever.
struct Epoch {
  /// The number in the upper 24 bits, 40 random bits below.
  std::uint64_t bits = 0;

  [[nodiscard]] constexpr std::uint32_t number() const noexcept {
    return static_cast<std::uint32_t>(bits >> 40);
  }
  [[nodiscard]] constexpr std::uint64_t random() const noexcept {
    return bits & ((std::uint64_t{1} << 40) - 1);
  }
  friend constexpr bool operator==(const Epoch&, const Epoch&) noexcept = default;
};

}  // namespace nori
