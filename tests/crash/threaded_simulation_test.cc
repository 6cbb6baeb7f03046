// Several threads on a schedule, on one disk, for some lives of a log: fixed seeds, and some that
// no run had before. `crash_hunt --threads` looks for more.

#include "testing/schedule/threaded_simulation.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace nori::crash_tests {
namespace {

using testing::simulate_threads;

// Goal: whatever order threads go on in, and whenever the crash comes, nothing that one of them was
// told is lost, nothing is there that none began, and each is told.
class ThreadedSimulationNoAsanTest : public ::testing::TestWithParam<std::uint64_t> {};
TEST_P(ThreadedSimulationNoAsanTest, LivesAddUp) {
  constexpr std::uint64_t kSeedsPerTest = 50;
  const auto first = 1000 * GetParam();
  for (auto seed = first; seed < first + kSeedsPerTest; ++seed) {
    ASSERT_EQ(simulate_threads(seed).wrong, "")
        << "seed " << seed << "; crash_hunt --threads --seed " << seed << " says more";
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, ThreadedSimulationNoAsanTest,
                         ::testing::Range<std::uint64_t>(0, 8));

TEST(NewThreadedSimulationNoAsanTest, LivesAddUp) {
  const auto first = std::uint64_t{std::random_device{}()} << 16;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  for (auto seed = first; std::chrono::steady_clock::now() < end; ++seed) {
    ASSERT_EQ(simulate_threads(seed).wrong, "")
        << "seed " << seed << "; crash_hunt --threads --seed " << seed << " says more";
  }
}

TEST(NewThreadedSimulationNoAsanTest, TheSameSeedDoesTheSame) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<std::string> first;
    std::vector<std::string> second;
    const auto run = simulate_threads(seed, &first);
    ASSERT_EQ(simulate_threads(seed, &second).digest, run.digest);
    ASSERT_EQ(first, second) << "seed " << seed;
    // Being watched changes nothing.
    ASSERT_EQ(simulate_threads(seed).digest, run.digest);
  }
}

}  // namespace
}  // namespace nori::crash_tests
