#include "observe/latency_recorder.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <thread>

namespace nori {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

TEST(LatencyRecorderTest, NothingIsCountedAtFirst) {
  const auto histogram = LatencyRecorder().snapshot();
  EXPECT_EQ(histogram.count, 0U);
  EXPECT_EQ(histogram.total.count(), 0);
  EXPECT_TRUE(histogram.buckets.empty());
  EXPECT_EQ(histogram.quantile(0.99).count(), 0);
}

// Goal: no time falls outside its bucket, and no bucket is wider than it is said to be.
TEST(LatencyRecorderTest, EveryTimeLiesInABucketAQuarterWide) {
  std::uint64_t times = 0;
  for (std::uint64_t power = 0; power < 62; ++power) {
    const auto around = std::uint64_t{1} << power;
    for (const auto ns : {around - 1, around, around + 1, around + around / 4 - 1,
                          around + around / 4, around + around / 2, around + around - 1}) {
      LatencyRecorder recorder;
      recorder.record(nanoseconds(ns));
      const auto histogram = recorder.snapshot();
      ASSERT_EQ(histogram.buckets.size(), 1U);
      const auto& bucket = histogram.buckets.front();
      EXPECT_EQ(bucket.count, 1U);
      EXPECT_LE(bucket.from, nanoseconds(ns)) << ns;
      EXPECT_GT(bucket.end, nanoseconds(ns)) << ns;
      EXPECT_LE((bucket.end - bucket.from).count(),
                std::max<std::int64_t>(bucket.from.count() / 4, 1))
          << ns;
      EXPECT_EQ(histogram.longest, nanoseconds(ns));
      EXPECT_EQ(histogram.quantile(0.5), nanoseconds(ns)) << "never above the longest";
      ++times;
    }
  }
  EXPECT_EQ(times, 62U * 7);
}

TEST(LatencyRecorderTest, TheExtremesAreTaken) {
  LatencyRecorder recorder;
  recorder.record(nanoseconds(-5));  // a clock that went back
  recorder.record(nanoseconds(std::numeric_limits<std::int64_t>::max()));
  const auto histogram = recorder.snapshot();
  EXPECT_EQ(histogram.count, 2U);
  EXPECT_EQ(histogram.buckets.front().from.count(), 0);
  EXPECT_EQ(histogram.longest.count(), std::numeric_limits<std::int64_t>::max());
}

TEST(LatencyRecorderTest, QuantilesAreAtMostAQuarterTooHigh) {
  LatencyRecorder recorder;
  for (int i = 1; i <= 1000; ++i) {
    recorder.record(microseconds(i));
  }
  const auto histogram = recorder.snapshot();
  EXPECT_EQ(histogram.count, 1000U);
  EXPECT_EQ(histogram.total, microseconds(500'500));
  EXPECT_EQ(histogram.longest, milliseconds(1));
  for (const auto percent : {1, 10, 50, 90, 99}) {
    const auto exact = microseconds(percent * 10);
    const auto told = histogram.quantile(percent / 100.0);
    EXPECT_GE(told, exact) << percent;
    EXPECT_LE(told, exact + exact / 4) << percent;
  }
  EXPECT_EQ(histogram.quantile(1), milliseconds(1));
}

}  // namespace
}  // namespace nori
