#include "log/background_task.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <latch>
#include <memory>
#include <thread>
#include <vector>

#include "testing/comes_true.h"

namespace nori {
namespace {

using Clock = BackgroundTask::Clock;
using std::chrono::milliseconds;
using testing::comes_true;

std::shared_ptr<BackgroundThreads> threads(unsigned count) {
  return std::make_shared<BackgroundThreads>(count);
}

TEST(BackgroundTaskThreadsTest, RunsWhenWokenAndNotBefore) {
  std::atomic<int> steps{0};
  BackgroundTask task(threads(1), [&]() -> std::optional<Clock::time_point> {
    ++steps;
    return std::nullopt;
  });
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_EQ(steps, 0);
  task.wake();
  EXPECT_TRUE(comes_true([&] { return steps == 1; }));
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_EQ(steps, 1);
}

TEST(BackgroundTaskThreadsTest, RunsAgainAtTheTimeItAnswered) {
  std::vector<Clock::time_point> times;
  std::atomic<int> steps{0};
  BackgroundTask task(threads(1), [&]() -> std::optional<Clock::time_point> {
    times.push_back(Clock::now());
    return ++steps < 3 ? std::optional(Clock::now() + milliseconds(10)) : std::nullopt;
  });
  task.wake();
  ASSERT_TRUE(comes_true([&] { return steps == 3; }));
  EXPECT_GE(times[1] - times[0], milliseconds(10));
  EXPECT_GE(times[2] - times[1], milliseconds(10));
}

TEST(BackgroundTaskThreadsTest, AWakingWhileItRunsIsNotLost) {
  std::atomic<int> steps{0};
  std::latch began(1);
  std::latch woken(1);
  BackgroundTask task(threads(2), [&]() -> std::optional<Clock::time_point> {
    if (++steps == 1) {
      began.count_down();
      woken.wait();
    }
    return std::nullopt;
  });
  task.wake();
  began.wait();
  task.wake();
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_EQ(steps, 1) << "never twice at once";
  woken.count_down();
  EXPECT_TRUE(comes_true([&] { return steps == 2; }));
}

// The time of one is kept while the other occupies a thread.
TEST(BackgroundTaskThreadsTest, ATimeIsKeptWhileAnotherRuns) {
  const auto both = threads(2);
  std::atomic<int> steps{0};
  BackgroundTask timed(both, [&]() -> std::optional<Clock::time_point> {
    ++steps;
    return Clock::now() + milliseconds(5);
  });
  std::latch enough(1);
  BackgroundTask slow(both, [&]() -> std::optional<Clock::time_point> {
    enough.wait();
    return std::nullopt;
  });
  timed.wake();
  ASSERT_TRUE(comes_true([&] { return steps > 2; }));
  slow.wake();
  const int before = steps;
  EXPECT_TRUE(comes_true([&] { return steps > before + 2; }));
  enough.count_down();
}

TEST(BackgroundTaskThreadsTest, ItsEndWaitsForAStepThatRuns) {
  const auto one = threads(1);
  std::atomic<bool> has_ended{false};
  std::latch began(1);
  auto task = std::make_unique<BackgroundTask>(one, [&]() -> std::optional<Clock::time_point> {
    began.count_down();
    std::this_thread::sleep_for(milliseconds(30));
    has_ended = true;
    return Clock::now();  // again at once, if it could
  });
  task->wake();
  began.wait();
  task.reset();
  EXPECT_TRUE(has_ended);
}

// What has ended while it waited in the list, or for a time, does not run; the others do.
TEST(BackgroundTaskThreadsTest, OneOfManyCanGoAtAnyTime) {
  const auto one = threads(1);
  std::vector<std::atomic<int>> steps(30);
  std::vector<std::unique_ptr<BackgroundTask>> tasks;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    tasks.push_back(std::make_unique<BackgroundTask>(
        one, [&step = steps[i], i]() -> std::optional<Clock::time_point> {
          ++step;
          return i % 2 == 0 ? std::optional(Clock::now() + milliseconds(1)) : std::nullopt;
        }));
  }
  std::latch enough(1);
  BackgroundTask slow(one, [&]() -> std::optional<Clock::time_point> {
    enough.wait();
    return std::nullopt;
  });
  slow.wake();
  for (const auto& task : tasks) {
    task->wake();
  }
  for (std::size_t i = 0; i < tasks.size(); i += 3) {
    tasks[i].reset();
  }
  enough.count_down();
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    if (tasks[i] != nullptr) {
      EXPECT_TRUE(comes_true([&] { return steps[i] >= (i % 2 == 0 ? 3 : 1); })) << i;
    }
  }
  EXPECT_EQ(steps[3], 0);
}

TEST(BackgroundTaskTest, AChildOfAForkHasNoneToWaitFor) {
  auto two = threads(2);
  const pid_t child = ::fork();
  if (child == 0) {
    two.reset();
    ::_exit(0);
  }
  int status = -1;
  ASSERT_TRUE(comes_true([&] { return ::waitpid(child, &status, WNOHANG) == child; }));
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace nori
