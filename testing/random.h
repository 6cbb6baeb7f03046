// Random numbers that a seed repeats on every machine and compiler.

#pragma once

#include <cstdint>

namespace nori::testing {

/// SplitMix64. Threads: none; whoever holds it guards it.
class Random {
 public:
  explicit constexpr Random(std::uint64_t seed) noexcept : state_(seed) {}

  constexpr std::uint64_t next() noexcept {
    state_ += 0x9e3779b97f4a7c15;
    std::uint64_t bits = state_;
    bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
    return bits ^ (bits >> 31);
  }

  /// A number in [0, end); `end` is not 0.
  constexpr std::uint64_t below(std::uint64_t end) noexcept { return next() % end; }

  /// True `times` out of 256 times.
  constexpr bool chance(unsigned times) noexcept { return (next() >> 56) < times; }

  constexpr bool coin() noexcept { return chance(128); }

 private:
  std::uint64_t state_;
};

}  // namespace nori::testing
