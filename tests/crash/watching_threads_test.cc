// A listener beside many threads and the log's own.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "nori/events.h"
#include "nori/wal.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"

namespace nori::crash_tests {
namespace {

using namespace nori::testing;  // NOLINT

// Answers each rotation with a durable record, asks for stats, and checks the order.
class Busy : public EventListener {
 public:
  void on_event(const Event& event) override {
    EXPECT_FALSE(within_.exchange(true)) << "two at a time";
    if (const auto* rotated = std::get_if<SegmentRotated>(&event); rotated != nullptr) {
      EXPECT_EQ(rotated->segment_id, ++newest);
      if (auto* log = wal.load(); log != nullptr) {
        const auto appended = log->append(Record::put("of the listener", ""), Durability::durable);
        if (appended) {
          EXPECT_GE(log->stats().segments, newest);
          ++answered;
        } else {
          // A rotation that close() found to do.
          EXPECT_EQ(appended.error().code, ErrorCode::closed) << appended.error().message;
        }
      }
    } else {
      EXPECT_TRUE(std::holds_alternative<SlowSync>(event)) << describe(event);
      ++slow_syncs;
    }
    within_.store(false);
  }

  std::atomic<Wal*> wal{nullptr};
  std::uint64_t newest = 0;
  std::uint64_t answered = 0;
  std::uint64_t slow_syncs = 0;

 private:
  std::atomic<bool> within_{false};
};

TEST(WatchingThreadsTest, EachEventIsToldOnceInOrderAndMayBeAnswered) {
  constexpr int kThreads = 4;
  constexpr int kAppends = 300;
  SimulatedDisk disk{3};
  auto options = small_options();
  options.directory = "log";
  options.file_system = &disk;
  options.background_thread = true;
  options.fsync = FsyncPolicy::batch(std::chrono::milliseconds(1));
  options.slow_sync = std::chrono::milliseconds(0);
  const auto listener = std::make_shared<Busy>();
  options.listener = listener;
  auto opened = Wal::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  auto& wal = opened->wal;
  listener->wal = &wal;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&wal, thread] {
      for (int i = 0; i < kAppends; ++i) {
        const auto level = i % 16 == thread ? Durability::durable : Durability::policy;
        ASSERT_TRUE(wal.append(Record::put("key", std::string(1000, 'v')), level));
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  ASSERT_TRUE(wal.close());
  const auto stats = wal.stats();
  EXPECT_GT(listener->answered, 10U);
  EXPECT_EQ(listener->newest, stats.segments - 1);
  EXPECT_EQ(listener->slow_syncs, stats.slow_syncs);
  EXPECT_EQ(listener->slow_syncs, stats.sync_latency.count);
  EXPECT_EQ(stats.events_dropped, 0U);
  options.mode = OpenMode::read_only;
  const auto again = Wal::open(options);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->recovery.next_sequence, kThreads * kAppends + listener->answered);
}

}  // namespace
}  // namespace nori::crash_tests
