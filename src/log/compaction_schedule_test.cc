#include "log/compaction_schedule.h"

#include <gtest/gtest.h>

namespace nori {
namespace {

using std::chrono::seconds;

CompactionReport left(std::uint64_t bytes) {
  CompactionReport report;
  report.bytes_after = bytes;
  return report;
}

TEST(CompactionScheduleTest, LooksWhenSoMuchMoreIsSealedThatItCouldBeTheRatio) {
  CompactionSchedule schedule({.garbage_ratio = 0.5}, 100);
  const CompactionSchedule::Clock::time_point now{};
  EXPECT_FALSE(schedule.decide(now, 1, 199).is_due);
  EXPECT_TRUE(schedule.decide(now, 2, 200).is_due);
  schedule.compacted(left(150));
  EXPECT_FALSE(schedule.decide(now, 3, 299).is_due);
  EXPECT_TRUE(schedule.decide(now, 4, 300).is_due);
  schedule.compacted(left(120));
  EXPECT_TRUE(schedule.decide(now, 5, 240).is_due);
}

TEST(CompactionScheduleTest, ASmallRatioDoesNotLookAllTheTime) {
  CompactionSchedule schedule({.garbage_ratio = 0.01}, 100);
  schedule.compacted(left(1000));
  EXPECT_FALSE(schedule.decide({}, 1, 1249).is_due);
  EXPECT_TRUE(schedule.decide({}, 1, 1250).is_due);
}

TEST(CompactionScheduleTest, WaitsUntilNothingWasAppendedForSoLong) {
  CompactionSchedule schedule({.garbage_ratio = 0.5, .idle = std::chrono::milliseconds(10'000)},
                              100);
  const CompactionSchedule::Clock::time_point begin{};
  EXPECT_EQ(schedule.decide(begin, 1, 500).ask_again, begin + seconds(10));
  const auto again = schedule.decide(begin + seconds(10), 2, 500);
  EXPECT_FALSE(again.is_due);
  EXPECT_EQ(again.ask_again, begin + seconds(20));
  EXPECT_TRUE(schedule.decide(begin + seconds(20), 2, 500).is_due);
  // With nothing to look at, nothing is asked again.
  EXPECT_EQ(schedule.decide(begin + seconds(30), 3, 10).ask_again, std::nullopt);
}

}  // namespace
}  // namespace nori
