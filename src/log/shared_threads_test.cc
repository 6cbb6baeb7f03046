// Several logs whose background work the same threads do: WalOptions::background.

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "nori/consumer.h"
#include "nori/wal.h"
#include "testing/comes_true.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using std::chrono::milliseconds;
using On = testing::Operation;
using testing::comes_true;
using testing::SimulatedDisk;

constexpr std::chrono::seconds kTooLong{10};

class SharedBackgroundThreadsTest : public ::testing::Test {
 protected:
  Wal& open(FsyncPolicy fsync = FsyncPolicy::batch(milliseconds{2})) {
    auto options = testing::small_options();
    options.directory = "/log" + std::to_string(logs_.size());
    options.file_system = &disk_;
    options.fsync = fsync;
    options.background_thread = true;
    options.background = threads_;
    auto opened = Wal::open(options);
    if (!opened) {
      throw std::runtime_error(opened.error().message);
    }
    logs_.push_back(std::make_unique<Wal>(std::move(opened->wal)));
    return *logs_.back();
  }

  static void append(Wal& wal) {
    if (const auto appended = wal.append(Record::put("key", std::string(200, 'v'))); !appended) {
      throw std::runtime_error(appended.error().message);
    }
  }

  static bool becomes_durable(const Wal& wal) {
    const auto end = wal.current_position();
    return comes_true([&] { return wal.durable_position() >= end; });
  }

  SimulatedDisk disk_{1};
  std::shared_ptr<BackgroundThreads> threads_ = std::make_shared<BackgroundThreads>(1);
  std::vector<std::unique_ptr<Wal>> logs_;
};

TEST_F(SharedBackgroundThreadsTest, EachLogsWindowIsKept) {
  for (int i = 0; i < 20; ++i) {
    open();
  }
  for (int burst = 0; burst < 3; ++burst) {
    for (const auto& wal : logs_) {
      append(*wal);
    }
    for (const auto& wal : logs_) {
      EXPECT_TRUE(becomes_durable(*wal));
    }
  }
}

TEST_F(SharedBackgroundThreadsTest, ALogThatFailedOrClosedIsNoOthersMatter) {
  Wal& first = open();
  Wal& second = open();
  Wal& third = open();
  append(first);
  EXPECT_TRUE(becomes_durable(first));
  append(second);
  EXPECT_TRUE(becomes_durable(second));
  disk_.fail_nth(On::durable_write, 0, EIO);
  append(second);
  ASSERT_TRUE(comes_true([&] { return second.stats().failure.has_value(); }));
  EXPECT_TRUE(first.close());
  append(third);
  EXPECT_TRUE(becomes_durable(third));
}

TEST_F(SharedBackgroundThreadsTest, ConsumersAreWrittenByThem) {
  Wal& wal = open();
  append(wal);
  ASSERT_TRUE(wal.sync());
  auto consumer = wal.consumer("billing");
  ASSERT_TRUE(consumer) << consumer.error().message;
  ASSERT_TRUE(consumer->commit({.sequence = 1}));
  const auto deadline = std::chrono::steady_clock::now() + kTooLong;
  while (wal.consumers()->front().position.sequence != 1) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    std::this_thread::sleep_for(milliseconds{1});
  }
}

// Opening and closing while the threads are at work for others.
TEST_F(SharedBackgroundThreadsTest, LogsComeAndGo) {
  disk_.set_latency([](On operation) {
    return milliseconds(operation == On::sync || operation == On::durable_write ? 1 : 0);
  });
  threads_ = std::make_shared<BackgroundThreads>(2);
  for (int i = 0; i < 8; ++i) {
    append(open());
  }
  std::vector<std::jthread> closing;
  for (const auto& wal : logs_) {
    closing.emplace_back([&wal] {
      for (int i = 0; i < 50; ++i) {
        append(*wal);
      }
      EXPECT_TRUE(wal->close());
    });
  }
  threads_.reset();  // the logs keep them
}

}  // namespace
}  // namespace nori
