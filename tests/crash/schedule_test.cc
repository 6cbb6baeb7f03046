// The scheduler itself: that it repeats an order, and finds what only some orders show.

#include "testing/schedule/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/backoff_mutex.h"
#include "base/preemption.h"
#include "base/wakeup.h"

namespace nori::crash_tests {
namespace {

using namespace std::chrono_literals;
using testing::Schedule;
using Clock = std::chrono::steady_clock;

// A finding says which seeds show it: some do, not all.
constexpr std::uint64_t kSeeds = 200;

// What a run with a seed is found to have got wrong, or nothing.
using Run = std::function<std::string(std::uint64_t seed)>;

std::uint64_t seeds_that_fail(const Run& run) {
  std::uint64_t failed = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    failed += run(seed).empty() ? 0 : 1;
  }
  return failed;
}

// Three threads that take turns at a mutex.
std::vector<int> order_of(std::uint64_t seed, std::uint64_t* digest = nullptr) {
  std::vector<int> order;
  std::mutex mutex;
  Schedule schedule(seed);
  EXPECT_EQ(schedule.run([&] {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < 3; ++thread) {
      threads.emplace_back([&, thread] {
        for (int i = 0; i < 5; ++i) {
          const std::lock_guard lock(mutex);
          order.push_back(thread);
        }
      });
    }
  }),
            "");
  if (digest != nullptr) {
    *digest = schedule.digest();
  }
  return order;
}

TEST(ScheduleNoAsanTest, TheSameSeedIsTheSameOrder) {
  std::set<std::vector<int>> orders;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    std::uint64_t digest = 0;
    std::uint64_t again = 0;
    const auto order = order_of(seed, &digest);
    ASSERT_EQ(order.size(), 15U);
    ASSERT_EQ(order, order_of(seed, &again));
    ASSERT_EQ(digest, again);
    orders.insert(order);
  }
  EXPECT_GT(orders.size(), kSeeds / 2);
}

TEST(ScheduleNoAsanTest, FindsALostUpdate) {
  const auto run = [](bool is_locked, std::uint64_t seed) {
    int count = 0;
    std::mutex mutex;
    const auto add_one = [&] {
      std::unique_lock lock(mutex);
      const auto before = count;
      if (!is_locked) {
        lock.unlock();
        lock.lock();
      }
      count = before + 1;
    };
    Schedule schedule(seed);
    const auto wrong = schedule.run([&] {
      const std::jthread other(add_one);
      add_one();
    });
    return count == 2 ? wrong : "lost";
  };
  EXPECT_GT(seeds_that_fail([&](auto seed) { return run(false, seed); }), 0U);
  EXPECT_EQ(seeds_that_fail([&](auto seed) { return run(true, seed); }), 0U);
}

TEST(ScheduleNoAsanTest, ReadersAreTogetherAndAWriterIsAlone) {
  std::uint64_t together = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    std::shared_mutex mutex;
    int readers = 0;
    int most = 0;
    bool is_written = false;
    const auto read = [&] {
      const std::shared_lock lock(mutex);
      EXPECT_FALSE(is_written);
      most = std::max(most, ++readers);
      std::this_thread::yield();
      --readers;
    };
    Schedule schedule(seed);
    ASSERT_EQ(schedule.run([&] {
      const std::jthread one(read);
      const std::jthread other(read);
      const std::lock_guard lock(mutex);
      EXPECT_EQ(readers, 0);
      is_written = true;
      std::this_thread::yield();
      is_written = false;
    }),
              "");
    together += most == 2 ? 1 : 0;
  }
  EXPECT_GT(together, 0U);
}

// What threads that are stuck refer to has to stay: none of this ends.
struct Shared {
  std::mutex one;
  std::mutex other;
  std::condition_variable changed;
  bool is_set = false;
};

TEST(ScheduleNoAsanTest, FindsADeadlock) {
  const auto crossed = [](std::uint64_t seed) {
    auto shared = std::make_shared<Shared>();
    Schedule schedule(seed);
    return schedule.run([shared] {
      const std::jthread thread([&] {
        const std::lock_guard first(shared->one);
        const std::lock_guard second(shared->other);
      });
      Schedule::note("takes them the other way round");
      const std::lock_guard first(shared->other);
      const std::lock_guard second(shared->one);
    });
  };
  EXPECT_GT(seeds_that_fail(crossed), 0U);
  std::uint64_t seed = 0;
  while (crossed(seed).empty()) {
    ++seed;
  }
  EXPECT_EQ(crossed(seed),
            "nobody can go on:\n"
            "  thread 0 (takes them the other way round) waits for a mutex of thread 1\n"
            "  thread 1 (nothing yet) waits for a mutex of thread 0");
}

TEST(ScheduleNoAsanTest, FindsALostWakeup) {
  const auto run = [](bool under_the_mutex, std::uint64_t seed) {
    auto shared = std::make_shared<Shared>();
    Schedule schedule(seed);
    return schedule.run([shared, under_the_mutex] {
      const std::jthread thread([&] {
        std::unique_lock lock(shared->one);
        while (!shared->is_set) {
          if (!under_the_mutex) {  // between looking and waiting
            lock.unlock();
            lock.lock();
          }
          shared->changed.wait(lock);
        }
      });
      const std::lock_guard lock(shared->one);
      shared->is_set = true;
      shared->changed.notify_one();
    });
  };
  EXPECT_GT(seeds_that_fail([&](auto seed) { return run(false, seed); }), 0U);
  EXPECT_EQ(seeds_that_fail([&](auto seed) { return run(true, seed); }), 0U);
}

// The library's own, of futexes.
TEST(ScheduleNoAsanTest, WakesWhoSleepsOnAFutex) {
  const auto run = [](std::uint64_t seed) {
    int count = 0;
    BackoffMutex mutex;
    Wakeup wakeup;
    Schedule schedule(seed);
    const auto wrong = schedule.run([&] {
      std::vector<std::jthread> threads;
      for (int thread = 0; thread < 3; ++thread) {
        threads.emplace_back([&] {
          const std::lock_guard lock(mutex);
          const auto before = count;
          preemption_point("counting");
          count = before + 1;
        });
      }
      threads.emplace_back([&] { wakeup.wake(); });
      wakeup.wait();
    });
    return count == 3 ? wrong : "lost";
  };
  EXPECT_EQ(seeds_that_fail(run), 0U);
}

TEST(ScheduleNoAsanTest, TimePassesWhenNobodyCanGoOn) {
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    std::vector<std::string> woken;
    Schedule schedule(seed);
    const auto begin = Clock::now();
    ASSERT_EQ(schedule.run([&] {
      std::mutex mutex;
      std::condition_variable never;
      const std::jthread longer([&] {
        std::this_thread::sleep_for(2h);
        woken.emplace_back("longer");
      });
      const auto start = Clock::now();
      std::unique_lock lock(mutex);
      const auto in_vain = never.wait_for(lock, 1h);
      EXPECT_EQ(in_vain, std::cv_status::timeout);
      EXPECT_GE(Clock::now() - start, 1h);
      woken.emplace_back("shorter");
    }),
              "");
    ASSERT_EQ(woken, (std::vector<std::string>{"shorter", "longer"}));
    ASSERT_LT(Clock::now() - begin, 10s);
  }
}

// A sleep is no order: on a machine that is slow it ends before what takes no time at all.
TEST(ScheduleNoAsanTest, ASleepMayEndBeforeOthersAreDone) {
  const auto run = [](std::uint64_t seed) {
    bool is_done = false;
    bool was_done = false;
    Schedule schedule(seed);
    const auto wrong = schedule.run([&] {
      std::mutex mutex;
      const std::jthread thread([&] {
        for (int i = 0; i < 20; ++i) {
          const std::lock_guard lock(mutex);
        }
        is_done = true;
      });
      std::this_thread::sleep_for(1h);
      was_done = is_done;
    });
    return was_done ? wrong : "not done";
  };
  const auto early = seeds_that_fail(run);
  EXPECT_GT(early, 0U);
  EXPECT_LT(early, kSeeds);
}

TEST(ScheduleNoAsanTest, WhoGoesRoundInCirclesIsNoticed) {
  Schedule schedule(1);
  const auto wrong = schedule.run([] {
    for (;;) {
      std::this_thread::yield();
    }
  });
  EXPECT_TRUE(wrong.ends_with("scheduling points it is not at its end")) << wrong;
}

TEST(ScheduleNoAsanTest, CallsAtAPointWhereNobodyElseGoesOn) {
  std::mutex mutex;
  bool is_inside = false;
  std::uint64_t called = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    Schedule schedule(seed);
    ASSERT_EQ(schedule.run([&] {
      Schedule::call_at_point(seed % 30, [&] {
        const std::lock_guard lock(mutex);
        is_inside = true;
        preemption_point("inside");
        is_inside = false;
        ++called;
      });
      std::vector<std::jthread> threads;
      for (int thread = 0; thread < 3; ++thread) {
        threads.emplace_back([&] {
          for (int i = 0; i < 10; ++i) {
            EXPECT_FALSE(is_inside);
            preemption_point("outside");
          }
        });
      }
    }),
              "");
  }
  EXPECT_EQ(called, kSeeds);
}

// Threads that belong to no schedule never notice.
TEST(ScheduleNoAsanTest, OtherThreadsGoOnAsEver) {
  std::mutex mutex;
  int count = 0;
  Schedule schedule(3);
  std::jthread outside([&] {
    for (int i = 0; i < 1000; ++i) {
      const std::lock_guard lock(mutex);
      ++count;
    }
  });
  EXPECT_EQ(schedule.run([] { std::this_thread::sleep_for(1h); }), "");
  outside.join();
  EXPECT_EQ(count, 1000);
}

}  // namespace
}  // namespace nori::crash_tests
