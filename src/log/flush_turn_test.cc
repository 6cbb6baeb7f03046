// Goal: of those who wait for a turn or for what it brings, nobody is left asleep.

#include "log/flush_turn.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace nori {
namespace {

using std::chrono::milliseconds;

TEST(FlushTurnThreadsTest, OneAtATimeHasIt) {
  FlushTurn turn;
  std::atomic<int> holders{0};
  std::atomic<int> turns{0};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 2000; ++round) {
        ASSERT_TRUE(turn.take({}));
        const FlushTurn::Release release(turn);
        EXPECT_EQ(++holders, 1);
        ++turns;
        --holders;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(turns, 12'000);
}

TEST(FlushTurnThreadsTest, AFlushServesAllThatItCovers) {
  FlushTurn turn;
  std::atomic<std::uint64_t> next{0};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 2000; ++round) {
        const auto mine = ++next;
        while (turn.durable.load() < mine) {
          if (turn.take({.durable = mine})) {
            const FlushTurn::Release release(turn);
            EXPECT_LT(turn.durable.load(), mine) << "it was served, and flushes all the same";
            turn.durable.store(next.load());
          }
        }
      }
    });
  }
  threads.clear();
  EXPECT_EQ(turn.durable, 12'000);
}

TEST(FlushTurnThreadsTest, ThoseThatHaveWhatTheyWantGoBeforeItsEnd) {
  FlushTurn turn;
  ASSERT_TRUE(turn.take({}));
  std::jthread served([&] { EXPECT_FALSE(turn.take({.written = 5})); });
  std::atomic<bool> has_turn = false;
  std::jthread next([&] {
    EXPECT_TRUE(turn.take({.written = 6}));
    has_turn = true;
    turn.release();
  });
  std::this_thread::sleep_for(milliseconds(5));
  turn.written.store(5);
  turn.wake_settled();
  served.join();
  EXPECT_FALSE(has_turn);
  turn.release();
}

TEST(FlushTurnThreadsTest, TheServedGoAndAnotherFlushesNext) {
  FlushTurn turn;
  ASSERT_TRUE(turn.take({}));
  std::jthread served([&] { EXPECT_FALSE(turn.take({.durable = 1})); });
  std::jthread next([&] {
    EXPECT_TRUE(turn.take({}));
    served.join();  // while it has the turn
    turn.release();
  });
  std::this_thread::sleep_for(milliseconds(20));
  turn.durable.store(1);
  turn.release();
}

// A failure from outside of a turn may come when the next one was woken and has not taken it: it
// goes without, and somebody has to wake the rest.
TEST(FlushTurnThreadsTest, AFailureWakesAllWhoeverHasTheTurn) {
  for (int round = 0; round < 1000; ++round) {
    FlushTurn turn;
    ASSERT_TRUE(turn.take({}));
    std::vector<std::jthread> waiting;
    std::atomic<int> arriving{0};
    for (int i = 0; i < 3; ++i) {
      waiting.emplace_back([&] {
        ++arriving;
        if (turn.take({.durable = 1})) {
          turn.release();
        }
      });
    }
    while (arriving != 3) {
      std::this_thread::yield();
    }
    if (round % 2 == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    turn.release();
    turn.failed.store(true);
    turn.wake_settled();
    waiting.clear();
    EXPECT_FALSE(turn.take({}));
  }
}

}  // namespace
}  // namespace nori
