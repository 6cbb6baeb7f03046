#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

namespace nori {

/// How often something took how long, since the log was opened: counts in buckets that are a
/// quarter of their lower bound wide, and a nanosecond below 8 ns.
struct LatencyHistogram {
  /// Took [from, end).
  struct Bucket {
    std::chrono::nanoseconds from{0};
    std::chrono::nanoseconds end{0};
    std::uint64_t count = 0;
  };

  std::uint64_t count = 0;
  std::chrono::nanoseconds total{0};
  std::chrono::nanoseconds longest{0};
  /// Those that are not empty, ascending.
  std::vector<Bucket> buckets;

  /// What the faster `part` of them, from 0 to 1, did not take longer than: quantile(0.99). At most
  /// a quarter too high, never above `longest`. 0 when nothing was counted.
  [[nodiscard]] std::chrono::nanoseconds quantile(double part) const noexcept;
};

}  // namespace nori
