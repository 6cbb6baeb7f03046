// Goal: a callback of when_durable comes exactly once, in order, when what it waits for is durable,
// or says why it is not.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "log/durable_callbacks.h"
#include "nori/wal.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using std::chrono::microseconds;
using testing::SimulatedDisk;
using On = testing::Operation;

// Opened once, by one thread; others wait for it.
class Gate {
 public:
  void open() {
    const std::lock_guard lock(mutex_);
    is_open_ = true;
    opened_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    opened_.wait(lock, [&] { return is_open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable opened_;
  bool is_open_ = false;
};

class WhenDurableThreadsTest : public ::testing::Test {
 protected:
  WhenDurableThreadsTest() {
    options_.fsync = FsyncPolicy::os();
    options_.file_system = &disk_;
    options_.background_thread = true;
    open();
  }

  void open() {
    wal_.reset();
    auto opened = Wal::open(options_);
    ASSERT_TRUE(opened) << opened.error().message;
    wal_.emplace(std::move(opened->wal));
  }

  Appended append(std::string_view key = "key") {
    auto appended = wal_->append(Record::put(key, std::string(200, 'v')));
    if (!appended) {
      throw std::runtime_error(appended.error().message);
    }
    return *appended;
  }

  // Registers one that writes down when it was called.
  Result<void> register_one(const Position& position) {
    return wal_->when_durable(position, [this, position](const Result<void>& outcome) {
      const bool is_durable = wal_->durable_position().sequence >= position.sequence;
      const std::lock_guard lock(mutex_);
      called_.push_back(
          {position.sequence, outcome ? "ok" : error_code_name(outcome.error().code), is_durable});
    });
  }

  struct Call {
    Sequence target = 0;
    std::string_view outcome;
    bool is_durable = false;
  };

  SimulatedDisk disk_{1};
  WalOptions options_ = testing::small_options();
  std::optional<Wal> wal_;
  std::mutex mutex_;
  std::vector<Call> called_;
};

TEST_F(WhenDurableThreadsTest, CallsInOrderEachOnceAndWhenItIsTrue) {
  disk_.set_latency([](On operation) {
    return microseconds(operation == On::durable_write || operation == On::sync ? 100 : 0);
  });
  constexpr int kRecords = 3000;
  for (int i = 0; i < kRecords; ++i) {
    ASSERT_TRUE(register_one(append().end));
  }
  ASSERT_TRUE(wal_->close());
  ASSERT_EQ(called_.size(), kRecords);
  for (int i = 0; i < kRecords; ++i) {
    const auto& call = called_[static_cast<std::size_t>(i)];
    EXPECT_EQ(call.target, i + 1);
    EXPECT_EQ(call.outcome, "ok");
    EXPECT_TRUE(call.is_durable);
  }
  EXPECT_LT(wal_->stats().flushes, kRecords / 2) << "they share no flushes";
}

TEST_F(WhenDurableThreadsTest, OrdersThoseRegisteredOutOfOrder) {
  std::vector<Position> ends;
  for (int i = 0; i < 4; ++i) {
    ends.push_back(append().end);
  }
  // The thread is held up in the first one, so that the others gather.
  Gate gate;
  ASSERT_TRUE(wal_->when_durable(ends[0], [&](const Result<void>&) { gate.wait(); }));
  for (const auto i : {3, 1, 2, 0}) {
    ASSERT_TRUE(register_one(ends[static_cast<std::size_t>(i)]));
  }
  EXPECT_GE(wal_->stats().callbacks_pending, 4);
  gate.open();
  ASSERT_TRUE(wal_->close());
  ASSERT_EQ(called_.size(), 4);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(called_[i].target, ends[i].sequence);
  }
}

TEST_F(WhenDurableThreadsTest, CallsOfWhatIsDurableAlready) {
  const auto end = append().end;
  ASSERT_TRUE(wal_->sync());
  ASSERT_TRUE(register_one(end));
  ASSERT_TRUE(wal_->close());
  ASSERT_EQ(called_.size(), 1);
  // Reopened, before anything is written.
  open();
  ASSERT_TRUE(register_one(end));
  ASSERT_TRUE(wal_->close());
  EXPECT_EQ(called_.size(), 2);
}

TEST_F(WhenDurableThreadsTest, RefusesWhatIsBeyondTheEnd) {
  auto beyond = append().end;
  ++beyond.sequence;
  const auto refused = register_one(beyond);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::invalid_argument);
  ASSERT_TRUE(wal_->close());
  EXPECT_TRUE(called_.empty());
}

TEST_F(WhenDurableThreadsTest, TellsOfAFailure) {
  const auto durable = append().end;
  ASSERT_TRUE(wal_->sync());
  disk_.fail_nth({On::sync, On::durable_write}, 0, EIO, testing::Repeat::forever);
  const auto lost = append().end;
  ASSERT_TRUE(register_one(lost));
  while (wal_->stats().callbacks_pending != 0) {
    std::this_thread::yield();
  }
  // What was durable before is so still, and what comes later is told as well.
  ASSERT_TRUE(register_one(durable));
  ASSERT_TRUE(register_one(lost));
  EXPECT_FALSE(wal_->close());
  ASSERT_EQ(called_.size(), 3);
  EXPECT_EQ(called_[0].outcome, "io");
  EXPECT_EQ(called_[1].outcome, "ok");
  EXPECT_EQ(called_[2].outcome, "io");
}

// One commit that fails may still leave earlier ones durable.
TEST_F(WhenDurableThreadsTest, TellsThoseWhoseRecordsAreDurableThatTheyAre) {
  Gate gate;
  const auto durable = append().end;
  ASSERT_TRUE(wal_->when_durable(durable, [&](const Result<void>&) { gate.wait(); }));
  while (wal_->stats().callbacks_pending != 0) {
    std::this_thread::yield();
  }
  const auto lost = append().end;
  ASSERT_TRUE(register_one(durable));
  ASSERT_TRUE(register_one(lost));
  disk_.fail_nth({On::sync, On::durable_write}, 0, EIO, testing::Repeat::forever);
  gate.open();
  EXPECT_FALSE(wal_->close());
  ASSERT_EQ(called_.size(), 2);
  EXPECT_EQ(called_[0].outcome, "ok");
  EXPECT_EQ(called_[1].outcome, "io");
}

TEST_F(WhenDurableThreadsTest, MayAppendRegisterAndReadButNotClose) {
  std::string_view close_answer;
  std::uint64_t records_read = 0;
  ASSERT_TRUE(wal_->when_durable(append().end, [&](const Result<void>&) {
    const auto closed = wal_->close();
    close_answer = closed ? "ok" : error_code_name(closed.error().code);
    auto reader = wal_->read_from(begin_of_log);
    while (reader && reader->next().value_or(std::nullopt)) {
      ++records_read;
    }
    EXPECT_TRUE(register_one(append("from a callback").end));
  }));
  while (wal_->current_position().sequence != 2 || wal_->stats().callbacks_pending != 0) {
    std::this_thread::yield();
  }
  ASSERT_TRUE(wal_->close());
  EXPECT_EQ(close_answer, "invalid_argument");
  EXPECT_EQ(records_read, 1);
  ASSERT_EQ(called_.size(), 1);
  EXPECT_EQ(called_[0].target, 2);
}

TEST_F(WhenDurableThreadsTest, ABoundedNumberIsPending) {
  const auto end = append().end;
  std::atomic<std::uint64_t> calls = 0;
  const auto count = [&](const Result<void>&) { ++calls; };
  Gate filled;
  Gate gate;
  std::string_view one_too_many;
  ASSERT_TRUE(wal_->when_durable(end, [&](const Result<void>&) {
    for (std::size_t i = 0; i < DurableCallbacks::kPendingMax; ++i) {
      EXPECT_TRUE(wal_->when_durable(end, count));
    }
    const auto refused = wal_->when_durable(end, count);
    one_too_many = refused ? "ok" : error_code_name(refused.error().code);
    filled.open();
    gate.wait();
  }));
  filled.wait();
  EXPECT_EQ(one_too_many, "would_block");
  // Another thread waits for room instead.
  std::atomic<bool> registered = false;
  std::thread other([&] {
    EXPECT_TRUE(wal_->when_durable(end, count));
    registered = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(registered);
  gate.open();
  other.join();
  ASSERT_TRUE(wal_->close());
  EXPECT_EQ(calls, DurableCallbacks::kPendingMax + 1);
}

TEST_F(WhenDurableThreadsTest, WhoWaitsForRoomIsToldThatTheLogCloses) {
  const auto end = append().end;
  Gate filled;
  Gate gate;
  std::uint64_t calls = 0;
  ASSERT_TRUE(wal_->when_durable(end, [&](const Result<void>&) {
    for (std::size_t i = 0; i < DurableCallbacks::kPendingMax; ++i) {
      EXPECT_TRUE(wal_->when_durable(end, [&](const Result<void>&) { ++calls; }));
    }
    filled.open();
    gate.wait();
  }));
  filled.wait();
  std::string_view answer;
  std::thread waiter([&] {
    const auto registered = wal_->when_durable(end, [&](const Result<void>&) { ++calls; });
    answer = registered ? "ok" : error_code_name(registered.error().code);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::thread closer([&] { EXPECT_TRUE(wal_->close()); });
  waiter.join();
  gate.open();
  closer.join();
  EXPECT_EQ(answer, "closed");
  EXPECT_EQ(calls, DurableCallbacks::kPendingMax);
  const auto late = wal_->when_durable(end, [&](const Result<void>&) { ++calls; });
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::closed);
}

TEST_F(WhenDurableThreadsTest, WhatItThrowsIsCounted) {
  ASSERT_TRUE(wal_->when_durable(
      append().end, [](const Result<void>&) { throw std::runtime_error("a callback's"); }));
  ASSERT_TRUE(register_one(append().end));
  while (wal_->stats().callbacks_pending != 0) {
    std::this_thread::yield();
  }
  ASSERT_TRUE(wal_->close());
  EXPECT_EQ(wal_->stats().callback_exceptions, 1);
  EXPECT_EQ(called_.size(), 1);
}

// A disk that finds no space for a write it had promised fails no log, and those who wait are told.
TEST_F(WhenDurableThreadsTest, TellsThatThereIsNoSpace) {
  ASSERT_TRUE(wal_->sync());
  const auto end = append().end;
  disk_.fail_nth({On::write, On::durable_write}, 0, ENOSPC, testing::Repeat::once);
  ASSERT_TRUE(register_one(end));
  while (wal_->stats().callbacks_pending != 0) {
    std::this_thread::yield();
  }
  ASSERT_TRUE(wal_->wait_durable(end));
  ASSERT_TRUE(wal_->close());
  ASSERT_EQ(called_.size(), 1);
  EXPECT_EQ(called_[0].outcome, "no_space");
}

TEST_F(WhenDurableThreadsTest, ThoseLeftAreCalledWhenTheLogGoes) {
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(register_one(append().end));
  }
  auto* const wal = &*wal_;
  ASSERT_NE(wal, nullptr);
  wal_->close().value();
  EXPECT_EQ(called_.size(), 10);
}

}  // namespace
}  // namespace nori
