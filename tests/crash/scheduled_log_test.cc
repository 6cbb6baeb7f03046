// What a log tells its threads, in orders that real threads hardly come to.

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "nori/wal.h"
#include "testing/recovered_log.h"
#include "testing/schedule/schedule.h"
#include "testing/simulated_disk.h"

namespace nori::crash_tests {
namespace {

using testing::Operation;
using testing::Schedule;
using testing::SimulatedDisk;

// Whoever asks in two ways is not told of less by the second.
TEST(ScheduledLogNoAsanTest, TheDurableMarkNeverGoesBack) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    SimulatedDisk disk(seed);
    auto options = testing::small_options();
    options.file_system = &disk;
    auto opened = Wal::open(options);
    ASSERT_TRUE(opened) << opened.error().message;
    auto& wal = opened->wal;
    Schedule schedule(seed);
    ASSERT_EQ(schedule.run([&] {
      const std::jthread appends([&] {
        for (int i = 0; i < 5; ++i) {
          EXPECT_TRUE(wal.append(Record::put("key", "value"), Durability::durable));
        }
      });
      for (Sequence told = 0; told < 5;) {
        const auto position = wal.durable_position().sequence;
        const auto stats = wal.stats().durable_sequence;
        ASSERT_LE(told, position);
        ASSERT_LE(position, stats) << "seed " << seed;
        told = stats;
        std::this_thread::sleep_for(std::chrono::microseconds(1));
      }
    }),
              "");
  }
}

// A failure outside of the turn, while that goes from one to the next.
TEST(ScheduledLogNoAsanTest, AFailureIsToldToEachWhoWaits) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    // Where somebody is not told, all of it stays.
    const auto disk = std::make_shared<SimulatedDisk>(seed);
    auto options = testing::small_options();
    options.file_system = disk.get();
    auto opened = Wal::open(options);
    ASSERT_TRUE(opened) << opened.error().message;
    const auto wal = std::make_shared<Wal>(std::move(opened->wal));
    ASSERT_TRUE(wal->append(Record::put("first", "")));
    disk->fail_nth({Operation::create, Operation::allocate}, seed % 4, EIO);
    Schedule schedule(seed);
    ASSERT_EQ(schedule.run([disk, wal] {
      std::vector<std::jthread> threads;
      for (int thread = 0; thread < 5; ++thread) {
        threads.emplace_back([&] {
          const std::string value(5000, 'v');
          while (wal->append(Record::put("key", value), Durability::durable)) {
          }
        });
      }
    }),
              "")
        << "seed " << seed;
  }
}

}  // namespace
}  // namespace nori::crash_tests
