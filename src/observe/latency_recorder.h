// Counts how long things take.

#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "nori/latency.h"

namespace nori {

/// Measures from when it is made.
class Stopwatch {
 public:
  [[nodiscard]] std::chrono::nanoseconds elapsed() const noexcept {
    return std::chrono::steady_clock::now() - began_;
  }

 private:
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

/// A histogram being filled: the leading bit of a time in nanoseconds and the two bits behind it
/// say which bucket it is counted in.
///
/// Threads: any, without a lock. What is recorded beside a snapshot() may be in part of it.
class LatencyRecorder {
 public:
  void record(std::chrono::nanoseconds time) noexcept;
  [[nodiscard]] LatencyHistogram snapshot() const;

 private:
  // A time has 63 bits; below 4 ns each has its own bucket.
  static constexpr std::size_t kBuckets = 62 * 4;

  std::array<std::atomic<std::uint64_t>, kBuckets> counts_{};
  std::atomic<std::uint64_t> total_ns_{0};
  std::atomic<std::uint64_t> longest_ns_{0};
};

}  // namespace nori
