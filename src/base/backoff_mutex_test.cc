#include "base/backoff_mutex.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace nori {
namespace {

// More threads than cores, so that some nap while they wait.
TEST(BackoffMutexThreadsTest, OneThreadAtATime) {
  constexpr int kThreads = 8;
  constexpr std::uint64_t kTimes = 20'000;
  BackoffMutex mutex;
  std::uint64_t count = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (std::uint64_t j = 0; j < kTimes; ++j) {
          const std::lock_guard lock(mutex);
          ++count;
        }
      });
    }
  }
  EXPECT_EQ(count, kThreads * kTimes);
}

// Held for long enough that all others nap, as long as they ever do.
TEST(BackoffMutexThreadsTest, WhoNapsGoesOn) {
  constexpr int kThreads = 8;
  BackoffMutex mutex;
  int count = 0;
  std::vector<std::jthread> threads;
  {
    const std::lock_guard lock(mutex);
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        const std::lock_guard here(mutex);
        ++count;
      });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(count, 0);
  }
  threads.clear();
  EXPECT_EQ(count, kThreads);
}

TEST(BackoffMutexTest, IsNotTakenTwice) {
  BackoffMutex mutex;
  EXPECT_TRUE(mutex.try_lock());
  EXPECT_FALSE(mutex.try_lock());
  mutex.unlock();
  EXPECT_TRUE(mutex.try_lock());
  mutex.unlock();
}

}  // namespace
}  // namespace nori
