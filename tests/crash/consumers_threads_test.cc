// Consumers, appends and retention beside each other, with the log's threads.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "nori/consumer.h"
#include "nori/wal.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"

namespace nori::crash_tests {
namespace {

using namespace nori::testing;  // NOLINT
using std::chrono::milliseconds;

constexpr milliseconds kTooLong{30'000};

WalOptions options_on(SimulatedDisk& disk) {
  auto options = small_options();
  options.directory = "log";
  options.file_system = &disk;
  options.background_thread = true;
  options.fsync = FsyncPolicy::batch(milliseconds(1));
  return options;
}

// Goal: every record comes to every consumer, in order, though segments go as soon as all have
// committed them.
TEST(ConsumersThreadsTest, RetentionTakesNothingThatAConsumerNeeds) {
  constexpr std::uint64_t kRecords = 1500;
  SimulatedDisk disk{3};
  auto options = options_on(disk);
  options.retention.max_bytes = 1;
  auto opened = Wal::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  auto& wal = opened->wal;
  std::vector<std::thread> threads;
  std::atomic<int> ready{0};
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&wal, &ready, i] {
      auto consumer = wal.consumer(fmt::format("consumer-{}", i));
      ++ready;
      ASSERT_TRUE(consumer) << consumer.error().message;
      for (Sequence next = 0; next < kRecords;) {
        const auto followed = consumer->follow(kTooLong);
        ASSERT_TRUE(followed && *followed) << "at " << next;
        const auto entry = consumer->next();
        ASSERT_TRUE(entry) << entry.error().message;
        ASSERT_TRUE(*entry);
        ASSERT_EQ((*entry)->sequence, next);
        ++next;
        ASSERT_TRUE(consumer->commit((*entry)->end));
      }
      ASSERT_TRUE(consumer->close());
    });
  }
  while (ready < 2) {
    std::this_thread::yield();
  }
  threads.emplace_back([&wal] {
    for (std::uint64_t i = 0; i < kRecords; ++i) {
      ASSERT_TRUE(wal.append(Record::put("key", std::string(500, 'v'))));
      if (i % 64 == 0) {
        ASSERT_TRUE(wal.apply_retention());
        static_cast<void>(wal.stats());
      }
    }
  });
  for (auto& thread : threads) {
    thread.join();
  }
  ASSERT_TRUE(wal.apply_retention());
  EXPECT_EQ(wal.stats().segments, 1U);
  EXPECT_GT(wal.stats().segments_deleted, 5U);
  ASSERT_TRUE(wal.close());
}

TEST(ConsumersThreadsTest, ACommitIsWrittenWithoutFurtherCalls) {
  SimulatedDisk disk{3};
  auto opened = Wal::open(options_on(disk));
  ASSERT_TRUE(opened);
  auto& wal = opened->wal;
  ASSERT_TRUE(wal.append(Record::put("key", "value"), Durability::durable));
  auto consumer = wal.consumer("billing");
  ASSERT_TRUE(consumer);
  ASSERT_TRUE(consumer->commit({.sequence = 1}));
  const auto deadline = std::chrono::steady_clock::now() + kTooLong;
  while (wal.consumers()->front().position.sequence != 1) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    std::this_thread::sleep_for(milliseconds(1));
  }
}

TEST(ConsumersThreadsTest, ManyCommitsShareAWrite) {
  constexpr std::uint64_t kRecords = 2000;
  SimulatedDisk disk{3};
  auto opened = Wal::open(options_on(disk));
  ASSERT_TRUE(opened);
  auto& wal = opened->wal;
  for (std::uint64_t i = 0; i < kRecords; ++i) {
    ASSERT_TRUE(wal.append(Record::put("key", "value")));
  }
  ASSERT_TRUE(wal.sync());
  auto consumer = wal.consumer("billing");
  ASSERT_TRUE(consumer);
  const auto began = std::chrono::steady_clock::now();
  const auto syncs = wal.stats().sync_latency.count;
  std::vector<std::thread> threads;
  for (std::uint64_t thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&consumer, thread] {
      for (auto i = thread; i < kRecords; i += 3) {
        ASSERT_TRUE(consumer->commit({.sequence = i + 1}));
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  const auto spent =
      std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - began).count();
  const auto made = wal.stats().sync_latency.count - syncs;
  EXPECT_LE(made, 2 + static_cast<std::uint64_t>(spent) / 5);
  ASSERT_TRUE(consumer->close());
  EXPECT_EQ(wal.consumers()->front().position.sequence, kRecords);
}

TEST(ConsumersThreadsTest, AnErrorInTheBackgroundIsAnsweredByTheNextCommit) {
  SimulatedDisk disk{3};
  auto opened = Wal::open(options_on(disk));
  ASSERT_TRUE(opened);
  auto& wal = opened->wal;
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(wal.append(Record::put("key", "value"), Durability::durable));
  }
  auto consumer = wal.consumer("billing");
  ASSERT_TRUE(consumer);
  disk.inject({.operations = testing::Operation::sync, .name_suffix = ".cursor.tmp"});
  ASSERT_TRUE(consumer->commit({.sequence = 1}));
  const auto deadline = std::chrono::steady_clock::now() + kTooLong;
  while (disk.faults_hit() == 0) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    std::this_thread::sleep_for(milliseconds(1));
  }
  auto answer = consumer->commit({.sequence = 2});
  while (answer && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(1));
    answer = consumer->commit({.sequence = 2});
  }
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::io);
  EXPECT_TRUE(consumer->flush());
  EXPECT_EQ(wal.consumers()->front().position.sequence, 2U);
  EXPECT_FALSE(wal.stats().failure);
}

// With a cap a cursor is not moved beside a deletion: it might be made anew just after it was
// dropped.
TEST(ConsumersThreadsTest, ACappedOneIsWrittenWhenADeletionIsOver) {
  SimulatedDisk disk{3};
  auto opened = Wal::open(options_on(disk));
  ASSERT_TRUE(opened);
  auto& wal = opened->wal;
  ASSERT_TRUE(wal.append(Record::put("key", "value"), Durability::durable));
  auto consumer = wal.consumer("billing", {.max_lag_bytes = kGiB});
  ASSERT_TRUE(consumer);
  const auto directory = *disk.open_directory("log", false);
  auto deleting = directory->lock("cursors.lock", "somebody who deletes");
  ASSERT_TRUE(deleting) << deleting.error().message;
  ASSERT_TRUE(consumer->commit({.sequence = 1}));
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_EQ(wal.consumers()->front().position.sequence, 0U);
  deleting->reset();
  const auto deadline = std::chrono::steady_clock::now() + kTooLong;
  while (wal.consumers()->front().position.sequence != 1) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    std::this_thread::sleep_for(milliseconds(1));
  }
  EXPECT_TRUE(consumer->commit({.sequence = 1})) << "no error was kept";
}

// Goal: a cap drops a consumer of this process while it reads and commits.
TEST(ConsumersThreadsTest, ACapDropsOneThatIsBusy) {
  SimulatedDisk disk{3};
  auto options = options_on(disk);
  options.retention.max_bytes = 1;
  auto opened = Wal::open(options);
  ASSERT_TRUE(opened);
  auto& wal = opened->wal;
  auto consumer = wal.consumer("slow", {.max_lag_bytes = 1});
  ASSERT_TRUE(consumer);
  std::thread reading([&consumer] {
    ErrorCode code{};
    for (const auto deadline = std::chrono::steady_clock::now() + kTooLong;
         std::chrono::steady_clock::now() < deadline;) {
      const auto committed = consumer->commit({.sequence = 0});
      const auto followed = consumer->follow(milliseconds(1));
      if (!committed || !followed) {
        code = !committed ? committed.error().code : followed.error().code;
        break;
      }
    }
    EXPECT_EQ(code, ErrorCode::gone);
  });
  for (int i = 0; i < 400; ++i) {
    ASSERT_TRUE(wal.append(Record::put("key", std::string(500, 'v'))));
  }
  reading.join();
  EXPECT_TRUE(wal.consumers()->empty());
}

// One that does nothing is told by the next call, whatever it is: the log's threads look.
TEST(ConsumersThreadsTest, AnotherProcessDropsOneThatDoesNothing) {
  SimulatedDisk disk{3};
  auto opened = Wal::open(options_on(disk));
  ASSERT_TRUE(opened);
  auto& wal = opened->wal;
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(wal.append(Record::put("key", "value")));
    ASSERT_TRUE(wal.rotate());
  }
  ASSERT_TRUE(wal.sync());
  auto options = options_on(disk);
  options.mode = OpenMode::read_only;
  auto reading = Wal::open(options);
  ASSERT_TRUE(reading) << reading.error().message;
  auto consumer = reading->wal.consumer("slow", {.max_lag_bytes = 1});
  ASSERT_TRUE(consumer) << consumer.error().message;
  ASSERT_TRUE(consumer->commit({.sequence = 0}));
  ASSERT_EQ(*wal.delete_segments_before({.sequence = 3}), 3U);
  // A commit of what is done already asks nobody.
  const auto deadline = std::chrono::steady_clock::now() + kTooLong;
  auto committed = consumer->commit({.sequence = 0});
  while (committed && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(1));
    committed = consumer->commit({.sequence = 0});
  }
  ASSERT_FALSE(committed);
  EXPECT_EQ(committed.error().code, ErrorCode::gone);
}

// --- retention in the background

// A log of so many sealed segments, and how many of them are left when `is_over` says so.
class RetentionThreadsTest : public ::testing::Test {
 protected:
  void make_segments(int count) {
    auto options = options_on(disk_);
    options.background_thread = false;
    auto opened = Wal::open(options);
    ASSERT_TRUE(opened) << opened.error().message;
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(opened->wal.append(Record::put("key", "value")));
      ASSERT_TRUE(opened->wal.rotate());
    }
    ASSERT_TRUE(opened->wal.close());
  }
  Wal& open(const RetentionPolicy& policy) {
    auto options = options_on(disk_);
    options.retention = policy;
    auto opened = Wal::open(options);
    EXPECT_TRUE(opened) << opened.error().message;
    return wal_.emplace(std::move(opened->wal));
  }
  void wait_until(const std::function<bool()>& is_over) {
    const auto deadline = std::chrono::steady_clock::now() + kTooLong;
    while (!is_over()) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
      std::this_thread::sleep_for(milliseconds(1));
    }
  }

  SimulatedDisk disk_{3};
  std::optional<Wal> wal_;
};

TEST_F(RetentionThreadsTest, ManySegmentsGoInSeveralSteps) {
  make_segments(150);
  auto& wal = open({.max_bytes = 1});
  wait_until([&] { return wal.stats().segments_deleted == 150; });  // counted a step at a time
  EXPECT_EQ(wal.stats().segments, 1U);
  EXPECT_FALSE(wal.stats().retention_failure);
}

TEST_F(RetentionThreadsTest, WhatIsOldGoes) {
  make_segments(3);
  disk_.advance_ms(10'000);
  make_segments(3);  // so that the log has seen the time
  auto& wal = open({.max_age = milliseconds{5'000}});
  wait_until([&] { return wal.stats().segments_deleted == 3; });
}

TEST_F(RetentionThreadsTest, OneThatFailsOrIsKeptOutSaysSo) {
  make_segments(3);
  const auto directory = *disk_.open_directory("log", false);
  auto lock = directory->lock("cursors.lock", "somebody who makes a cursor");
  ASSERT_TRUE(lock);
  auto& wal = open({.max_bytes = 1});
  wait_until([&] { return wal.stats().retention_failure.has_value(); });
  EXPECT_EQ(wal.stats().retention_failure->code, ErrorCode::locked);
  lock->reset();
  wait_until([&] { return wal.stats().segments == 1; });
  wait_until([&] { return !wal.stats().retention_failure; });
  disk_.fail_nth(testing::Operation::remove, 0, EIO);
  ASSERT_TRUE(wal.append(Record::put("key", "value")));
  ASSERT_TRUE(wal.rotate());
  wait_until([&] { return wal.stats().retention_failure.has_value(); });
  EXPECT_EQ(wal.stats().retention_failure->code, ErrorCode::io);
  EXPECT_FALSE(wal.stats().failure) << "the log goes on";
}

}  // namespace
}  // namespace nori::crash_tests
