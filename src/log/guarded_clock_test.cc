#include "log/guarded_clock.h"

#include <gtest/gtest.h>

namespace nori {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

constexpr std::uint64_t kStart = 1'000'000'000'000;
constexpr std::uint64_t kHour = 3'600'000;
constexpr std::uint64_t kDay = 24 * kHour;
const GuardedClock::Running::time_point kBegan{};

TEST(GuardedClockTest, FollowsAWallClockThatGoesAsItShould) {
  GuardedClock clock(kStart, kBegan);
  EXPECT_EQ(clock.now_ms(kStart + 5, kBegan + milliseconds{5}), kStart + 5);
  EXPECT_EQ(clock.now_ms(kStart + kHour, kBegan + hours{1}), kStart + kHour);
}

TEST(GuardedClockTest, StartsWhereTheLogEndsAndNotAtTheWallClock) {
  GuardedClock clock(kStart, kBegan);
  EXPECT_EQ(clock.now_ms(kStart + 365 * kDay, kBegan), kStart);
}

TEST(GuardedClockTest, AJumpAheadIsFollowedByADayPerHour) {
  GuardedClock clock(kStart, kBegan);
  EXPECT_EQ(clock.now_ms(kStart + 365 * kDay, kBegan + hours{1}), kStart + kDay);
  EXPECT_EQ(clock.now_ms(kStart + 365 * kDay, kBegan + hours{3}), kStart + 3 * kDay);
  // Back again: it waits there.
  EXPECT_EQ(clock.now_ms(kStart + 4 * kHour, kBegan + hours{4}), kStart + 3 * kDay);
}

TEST(GuardedClockTest, NeverGoesBack) {
  GuardedClock clock(kStart, kBegan);
  EXPECT_EQ(clock.now_ms(kStart - 365 * kDay, kBegan + hours{1}), kStart);
  EXPECT_EQ(clock.now_ms(0, kBegan + hours{2}), kStart);
  EXPECT_EQ(clock.now_ms(kStart + kHour, kBegan + hours{3}), kStart + kHour);
}

TEST(GuardedClockTest, ManyShortLooksAddUpToOneLongOne) {
  GuardedClock clock(kStart, kBegan);
  std::uint64_t now = 0;
  for (int look = 1; look <= 3'600'000; look += 7) {
    now =
        clock.now_ms(kStart + 365 * kDay, kBegan + std::chrono::microseconds{1000LL * look + 300});
  }
  EXPECT_NEAR(static_cast<double>(now - kStart), kDay, 1000.0);
}

}  // namespace
}  // namespace nori
