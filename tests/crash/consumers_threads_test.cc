// Consumers, appends and retention beside each other, with the log's threads.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
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

}  // namespace
}  // namespace nori::crash_tests
