// Space and the next segment's file are made by the background, ahead of the appends.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

#include "nori/wal.h"
#include "testing/comes_true.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using On = testing::Operation;
using testing::comes_true;
using testing::SimulatedDisk;

constexpr std::uint64_t kSegmentBytes = 256 * kKiB;
constexpr std::size_t kValueBytes = 30'000;

class PrepareAheadThreadsTest : public ::testing::Test {
 protected:
  PrepareAheadThreadsTest() {
    options_ = testing::small_options();
    options_.directory = "/log";
    options_.file_system = &disk_;
    options_.segment_bytes = options_.ring_bytes = kSegmentBytes;
    options_.background_thread = true;
  }

  Wal open() {
    auto opened = Wal::open(options_);
    if (!opened) {
      throw std::runtime_error(opened.error().message);
    }
    return std::move(opened->wal);
  }

  [[nodiscard]] bool has_next_file() const {
    const auto names = disk_.list_files("log");
    return names && std::ranges::find(*names, "next.tmp") != names->end();
  }

  // The background has written what it does not wait for more with.
  static bool is_quiet(const Wal& wal) {
    return comes_true([&] { return wal.stats().ring_bytes_used < kSegmentBytes / 4; });
  }

  // Appends until the next segment's file is there.
  void append_up_to_the_next_file(Wal& wal) {
    for (int i = 0; i < 100 && !has_next_file(); ++i) {
      ASSERT_TRUE(wal.append(Record::put("k", std::string(kValueBytes, 'v'))));
      ASSERT_TRUE(is_quiet(wal));
    }
    ASSERT_TRUE(has_next_file());
  }

  // From now on, by other threads than this one.
  void count_spaces_made_by_others() {
    disk_.set_latency([this, appender = std::this_thread::get_id()](On operation) {
      if (operation == On::allocate && std::this_thread::get_id() != appender) {
        ++made_by_others_;
      }
      return std::chrono::microseconds{0};
    });
  }

  void expect_records(std::uint64_t records) {
    const auto wal = open();
    auto reader = wal.read_from(begin_of_log);
    ASSERT_TRUE(reader);
    std::uint64_t found = 0;
    for (const auto& entry : *reader) {
      ASSERT_TRUE(entry) << entry.error().message;
      ++found;
    }
    EXPECT_EQ(found, records);
  }

  std::atomic<int> made_by_others_{0};
  SimulatedDisk disk_{1};
  WalOptions options_;
};

// How often depends on who is faster; without it, it would be never.
TEST_F(PrepareAheadThreadsTest, TheBackgroundMakesSpace) {
  auto wal = open();
  ASSERT_TRUE(wal.append(Record::put("first", "")));
  count_spaces_made_by_others();
  for (int i = 0; i < 2000 && made_by_others_ < 5; ++i) {
    ASSERT_TRUE(wal.append(Record::put("k", std::string(kValueBytes, 'v'))));
    ASSERT_TRUE(is_quiet(wal));
  }
  EXPECT_GE(made_by_others_, 5);
}

// What is tried there, and given back, would be missing meanwhile.
TEST_F(PrepareAheadThreadsTest, NotWhereTheDiskIsNearlyFull) {
  disk_.set_capacity_bytes(8 * kSegmentBytes);
  auto wal = open();
  ASSERT_TRUE(wal.append(Record::put("first", "")));
  count_spaces_made_by_others();
  for (int i = 0; i < 40; ++i) {
    ASSERT_TRUE(wal.append(Record::put("k", std::string(kValueBytes, 'v'))));
    ASSERT_TRUE(is_quiet(wal));
  }
  EXPECT_GT(wal.stats().rotations, 3U);
  EXPECT_EQ(made_by_others_, 0);
}

TEST_F(PrepareAheadThreadsTest, AFileThatIsNotNeededIsRemoved) {
  auto wal = open();
  append_up_to_the_next_file(wal);
  ASSERT_TRUE(wal.close());
  EXPECT_FALSE(has_next_file());
  // Also by who opens a log that was left with one.
  {
    auto again = open();
    append_up_to_the_next_file(again);
    disk_.crash_process();
  }
  EXPECT_TRUE(has_next_file());
  auto last = open();
  ASSERT_TRUE(last.append(Record::put("last", "")));
  EXPECT_FALSE(has_next_file());
}

TEST_F(PrepareAheadThreadsTest, AFrameThatTheNextFileHasNoSpaceForIsAppended) {
  auto wal = open();
  append_up_to_the_next_file(wal);
  ASSERT_TRUE(wal.append(Record::put("large", std::string(2 * kSegmentBytes, 'v'))));
  const auto records = wal.current_position().sequence;
  ASSERT_TRUE(wal.close());
  expect_records(records);
}

// Goal: where the disk is full while space is made ahead, no append is lost, and no log.
// Method: each of the calls that make space fails once; whoever is told appends again.
TEST_F(PrepareAheadThreadsTest, ADiskThatIsFullForAMomentCostsNothing) {
  for (const auto operation : {On::allocate, On::create}) {
    for (std::uint64_t after = 0; after < 12; ++after) {
      SCOPED_TRACE(fmt::format("{} {}", testing::operation_name(operation), after));
      options_.directory = fmt::format("/{} {}", testing::operation_name(operation), after);
      std::uint64_t records = 0;
      {
        auto wal = open();
        ASSERT_TRUE(wal.append(Record::put("first", "")));
        disk_.fail_nth(operation, after, ENOSPC);
        for (records = 1; records < 60;) {
          const auto appended = wal.append(Record::put("k", std::string(kValueBytes, 'v')));
          if (!appended) {
            ASSERT_EQ(appended.error().code, ErrorCode::no_space) << appended.error().message;
          } else {
            ++records;
          }
          ASSERT_TRUE(is_quiet(wal));
        }
        EXPECT_FALSE(wal.stats().failure);
        disk_.clear_faults();
        ASSERT_TRUE(wal.close());
      }
      expect_records(records);
    }
  }
}

// While a segment cannot get its name the next one's file is its own.
TEST_F(PrepareAheadThreadsTest, AFileThatWaitsForItsNameIsNotReplaced) {
  std::uint64_t records = 0;
  {
    auto wal = open();
    append_up_to_the_next_file(wal);
    disk_.fail_nth(On::rename, 0, ENOSPC, testing::Repeat::forever);
    while (wal.try_append(Record::put("k", std::string(kValueBytes, 'v')))) {
    }
    ASSERT_GT(wal.stats().ring_bytes_used, kSegmentBytes / 2);
    const auto hits = disk_.faults_hit();
    ASSERT_TRUE(comes_true([&] { return disk_.faults_hit() > hits + 2; }));
    disk_.clear_faults();
    ASSERT_TRUE(wal.append(Record::put("k", "v")));
    records = wal.current_position().sequence;
    ASSERT_TRUE(wal.close());
  }
  expect_records(records);
}

// Of a segment that is larger than a step: what fails ahead of the appends costs none of them.
TEST_F(PrepareAheadThreadsTest, AStepThatFailsIsMadeByWhoNeedsIt) {
  constexpr std::size_t kLargeBytes = 200'000;
  constexpr std::uint64_t kRecords = 150;
  options_.segment_bytes = 64 * kMiB;
  options_.ring_bytes = kMiB;
  {
    auto wal = open();
    ASSERT_TRUE(wal.append(Record::put("first", "")));
    disk_.set_latency([this, appender = std::this_thread::get_id()](On operation) {
      if (operation == On::allocate && std::this_thread::get_id() != appender &&
          made_by_others_++ == 0) {
        disk_.fail_nth(On::allocate, 0, ENOSPC);
      }
      return std::chrono::microseconds{0};
    });
    for (std::uint64_t i = 1; i < kRecords; ++i) {
      ASSERT_TRUE(wal.append(Record::put("k", std::string(kLargeBytes, 'v'))));
      ASSERT_TRUE(comes_true([&] { return wal.stats().ring_bytes_used < kMiB / 2; }));
    }
    EXPECT_GE(made_by_others_, 1);
    EXPECT_FALSE(wal.stats().failure);
    ASSERT_TRUE(wal.close());
    disk_.set_latency({});
  }
  expect_records(kRecords);
}

// A log that fails while space is made for it has failed.
TEST_F(PrepareAheadThreadsTest, AFailedLogMakesNoSpace) {
  auto wal = open();
  append_up_to_the_next_file(wal);
  disk_.fail_nth(On::write, 0, EIO, testing::Repeat::forever);
  while (wal.append(Record::put("k", std::string(kValueBytes, 'v')))) {
  }
  EXPECT_TRUE(wal.stats().failure);
  disk_.clear_faults();
  EXPECT_FALSE(wal.append(Record::put("k", "v")));
}

}  // namespace
}  // namespace nori
