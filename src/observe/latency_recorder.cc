#include "observe/latency_recorder.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace nori {
namespace {

constexpr std::uint64_t kPerDoubling = 4;

// 0, 1, 2, 3, then 4 to each doubling.
std::size_t bucket_of(std::uint64_t ns) noexcept {
  if (ns < kPerDoubling) {
    return ns;
  }
  const auto doublings = static_cast<unsigned>(std::bit_width(ns)) - 3;
  return doublings * kPerDoubling + (ns >> doublings);
}

std::uint64_t bucket_from(std::size_t bucket) noexcept {
  if (bucket < 2 * kPerDoubling) {
    return bucket;
  }
  const auto doublings = bucket / kPerDoubling - 1;
  return (kPerDoubling + bucket % kPerDoubling) << doublings;
}

}  // namespace

void LatencyRecorder::record(std::chrono::nanoseconds time) noexcept {
  const auto ns = static_cast<std::uint64_t>(std::max<std::int64_t>(time.count(), 0));
  counts_[bucket_of(ns)].fetch_add(1, std::memory_order_relaxed);
  total_ns_.fetch_add(ns, std::memory_order_relaxed);
  auto longest = longest_ns_.load(std::memory_order_relaxed);
  while (ns > longest &&
         !longest_ns_.compare_exchange_weak(longest, ns, std::memory_order_relaxed)) {
  }
}

LatencyHistogram LatencyRecorder::snapshot() const {
  LatencyHistogram histogram;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    const auto count = counts_[i].load(std::memory_order_relaxed);
    if (count != 0) {
      histogram.count += count;
      histogram.buckets.push_back({.from = std::chrono::nanoseconds(bucket_from(i)),
                                   .end = std::chrono::nanoseconds(bucket_from(i + 1)),
                                   .count = count});
    }
  }
  histogram.total = std::chrono::nanoseconds(total_ns_.load(std::memory_order_relaxed));
  histogram.longest = std::chrono::nanoseconds(longest_ns_.load(std::memory_order_relaxed));
  return histogram;
}

std::chrono::nanoseconds LatencyHistogram::quantile(double part) const noexcept {
  const auto wanted = std::ceil(part * static_cast<double>(count));
  std::uint64_t passed = 0;
  for (const auto& bucket : buckets) {
    passed += bucket.count;
    if (static_cast<double>(passed) >= wanted) {
      return std::min(bucket.end - std::chrono::nanoseconds(1), longest);
    }
  }
  return longest;
}

}  // namespace nori
