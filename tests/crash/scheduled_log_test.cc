// What a log tells its threads, in orders that real threads hardly come to.

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "nori/verify.h"
#include "nori/wal.h"
#include "testing/recovered_log.h"
#include "testing/results.h"
#include "testing/schedule/schedule.h"
#include "testing/simulated_disk.h"

namespace nori::crash_tests {
namespace {

using testing::ok;
using testing::Operation;
using testing::Schedule;
using testing::SimulatedDisk;

// A log of its own for each seed. Holds what it is opened on.
struct SeededLog {
  explicit SeededLog(std::uint64_t seed) : disk(seed) { options.file_system = &disk; }

  Wal& open() {
    wal.emplace(std::move(ok(Wal::open(options)).wal));
    return *wal;
  }

  SimulatedDisk disk;
  WalOptions options = testing::small_options();
  std::optional<Wal> wal;
};

// Whoever asks in two ways is not told of less by the second.
TEST(ScheduledLogNoAsanTest, TheDurableMarkNeverGoesBack) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    SeededLog log(seed);
    auto& wal = log.open();
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

// Reads all there is, again and again, while the record "large" is appended and refused. Its value
// is zeros, so that what is not written looks as what is.
void expect_nobody_reads_what_is_refused(Wal& wal, std::size_t value_bytes, std::uint64_t seed) {
  ASSERT_TRUE(wal.append(Record::put("first", "")));
  Schedule schedule(seed);
  ASSERT_EQ(schedule.run([&] {
    std::atomic<bool> was_refused = false;
    const std::jthread appends([&] {
      const auto appended = wal.append(Record::put("large", std::string(value_bytes, '\0')));
      ASSERT_FALSE(appended);
      EXPECT_EQ(appended.error().code, ErrorCode::no_space) << appended.error().message;
      was_refused = true;
    });
    while (!was_refused) {
      auto reader = wal.read_from(begin_of_log);
      ASSERT_TRUE(reader) << reader.error().message;
      for (auto entry = reader->next(); entry && *entry; entry = reader->next()) {
        ASSERT_EQ((*entry)->key, "first") << "seed " << seed;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(1));
    }
  }),
            "");
}

// A frame that goes past the ring, behind the three writes of an opening and a rotation, in five of
// its own. One of those finds no space.
TEST(ScheduledLogNoAsanTest, NobodyReadsWhatIsRefused) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    SeededLog log(seed);
    auto& wal = log.open();
    log.disk.inject({.operations = Operation::write,
                     .after = 3 + seed % 5,
                     .system_errno = ENOSPC,
                     .name_suffix = ".wal"});
    ASSERT_NO_FATAL_FAILURE(expect_nobody_reads_what_is_refused(wal, 900'000, seed));
    EXPECT_EQ(log.disk.faults_hit(), 1U);
  }
}

TEST(ScheduledLogNoAsanTest, WithoutARingNobodyReadsWhatIsRefused) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    SeededLog log(seed);
    log.options.ring_bytes = WalOptions::kNoRing;
    auto& wal = log.open();
    log.disk.inject({.operations = Operation::write,
                     .after = 2 + seed % 2,
                     .system_errno = ENOSPC,
                     .name_suffix = ".wal"});
    ASSERT_NO_FATAL_FAILURE(expect_nobody_reads_what_is_refused(wal, 9000, seed));
    EXPECT_EQ(log.disk.faults_hit(), 1U);
  }
}

// Space that was given back is gone; then one thread asks for some, and another one's sync fills
// the last block.
TEST(ScheduledLogNoAsanTest, AnAllocationThatFailsTakesNothingBack) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    SeededLog log(seed);
    log.options.ring_bytes = WalOptions::kNoRing;
    auto& wal = log.open();
    ASSERT_TRUE(wal.append(Record::put("0", "")));
    log.disk.fail_nth(Operation::write, 0, ENOSPC);
    log.disk.fail_nth(Operation::allocate, 0, ENOSPC, testing::Repeat::forever);
    log.disk.inject({.operations = Operation::truncate, .after = 1, .system_errno = ENOSPC});
    ASSERT_FALSE(wal.append(Record::put("refused", "")));
    log.disk.set_latency([](Operation) { return std::chrono::microseconds(3); });
    Schedule schedule(seed);
    ASSERT_EQ(schedule.run([&] {
      const std::jthread appends(
          [&] { EXPECT_FALSE(wal.append(Record::put("refused", "")).has_value()); });
      EXPECT_TRUE(wal.sync());
    }),
              "");
    log.disk.set_latency({});
    log.disk.clear_faults();
    const auto appended = wal.append(Record::put("1", ""), Durability::durable);
    ASSERT_TRUE(appended) << "seed " << seed << ": " << appended.error().message;
    log.disk.power_cut(1, {.survival = testing::Survival::nothing});
    const auto opened = Wal::open(log.options);
    ASSERT_TRUE(opened) << "seed " << seed << ": " << opened.error().message;
    EXPECT_EQ(opened->recovery.next_sequence, 2U) << "seed " << seed;
  }
}

// Ten segments with a record each.
void write_segments(SeededLog& log) {
  auto& wal = log.open();
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(wal.append(Record::put("key", std::to_string(i))));
    ASSERT_TRUE(wal.rotate());
  }
  log.disk.crash_process();
  log.wal.reset();
}

void delete_one_by_one(Wal& wal) {
  for (Sequence sequence = 1; sequence <= 10; ++sequence) {
    const auto deleted = wal.delete_segments_before({.sequence = sequence});
    ASSERT_TRUE(deleted) << deleted.error().message;
  }
}

// Segments that go while a log is being opened are no damage.
TEST(ScheduledLogNoAsanTest, ALogThatIsDeletedFromOpensReadOnly) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    SeededLog log(seed);
    ASSERT_NO_FATAL_FAILURE(write_segments(log));
    auto& wal = log.open();
    Schedule schedule(seed);
    ASSERT_EQ(schedule.run([&] {
      const std::jthread deletes([&] { delete_one_by_one(wal); });
      auto read_only = log.options;
      read_only.mode = OpenMode::read_only;
      read_only.verification = Verification::all;
      const auto beside = Wal::open(read_only);
      ASSERT_TRUE(beside) << "seed " << seed << ": " << beside.error().message;
      EXPECT_FALSE(beside->recovery.corruption_detected)
          << "seed " << seed << ": " << beside->recovery.reason;
      EXPECT_EQ(beside->recovery.next_sequence, 10U);
    }),
              "");
  }
}

// Where all that it was listed with has gone, a missing segment is not its end.
TEST(ScheduledLogNoAsanTest, ALogThatMovesOnOpensReadOnly) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    SeededLog log(seed);
    log.options.ring_bytes = WalOptions::kNoRing;  // whose mark would say that there is more
    auto& wal = log.open();
    const auto append_and_rotate = [&] {
      EXPECT_TRUE(wal.append(Record::put("key", "value")));
      EXPECT_TRUE(wal.rotate());
    };
    const Sequence records = 1 + seed % 5;
    for (Sequence i = 0; i < records; ++i) {
      append_and_rotate();
    }
    Schedule schedule(seed);
    ASSERT_EQ(schedule.run([&] {
      const std::jthread moves_on([&] {
        for (int i = 0; i < 5; ++i) {
          append_and_rotate();
          EXPECT_TRUE(wal.delete_segments_before(wal.current_position()));
        }
      });
      auto read_only = log.options;
      read_only.mode = OpenMode::read_only;
      read_only.verification = Verification::all;
      const auto beside = Wal::open(read_only);
      ASSERT_TRUE(beside) << "seed " << seed << ": " << beside.error().message;
      EXPECT_GE(beside->recovery.next_sequence, records)
          << "seed " << seed << ": " << beside->recovery.reason;
    }),
              "");
  }
}

TEST(ScheduledLogNoAsanTest, ALogThatIsDeletedFromIsReadAndVerified) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    SeededLog log(seed);
    ASSERT_NO_FATAL_FAILURE(write_segments(log));
    auto& wal = log.open();
    Schedule schedule(seed);
    ASSERT_EQ(schedule.run([&] {
      const std::jthread deletes([&] { delete_one_by_one(wal); });
      const std::jthread verifies([&] {
        const auto report = verify(log.options.directory, &log.disk);
        ASSERT_TRUE(report) << "seed " << seed << ": " << report.error().message;
        EXPECT_TRUE(report->damages.empty())
            << "seed " << seed << ": " << report->damages.front().reason;
      });
      auto reader = wal.read_from(begin_of_log);
      ASSERT_TRUE(reader) << "seed " << seed << ": " << reader.error().message;
      Sequence read = 0;
      auto entry = reader->next();
      for (; entry && *entry; entry = reader->next()) {
        read = (*entry)->sequence + 1;
      }
      EXPECT_TRUE(entry ? read == 10 || read == 0 : entry.error().code == ErrorCode::gone)
          << "seed " << seed << ": " << read << ", "
          << (entry ? std::string("the end") : entry.error().message);
    }),
              "");
  }
}

// Of two compacted files that a verification finds in place of segments, one may still have its
// segments beside it: one seed in four hundred comes to see both.
TEST(ScheduledLogNoAsanTest, ALogThatIsCompactedIsVerified) {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    SeededLog log(seed);
    auto& wal = log.open();
    for (int record = 0; record < 60; ++record) {
      ASSERT_TRUE(wal.append(Record::put(std::to_string(record), std::string(9000, 'v'))));
      if (record % 3 == 2) {
        ASSERT_TRUE(wal.rotate());
      }
    }
    Schedule schedule(seed);
    ASSERT_EQ(schedule.run([&] {
      const std::jthread compacts([&] {
        const auto compacted = wal.compact({});
        ASSERT_TRUE(compacted) << compacted.error().message;
        EXPECT_GE(compacted->files.size(), 2U);
      });
      const auto report = verify(log.options.directory, &log.disk);
      ASSERT_TRUE(report) << "seed " << seed << ": " << report.error().message;
      EXPECT_TRUE(report->damages.empty())
          << "seed " << seed << ": " << report->damages.front().reason;
    }),
              "");
  }
}

// What a log that was opened on a full disk has left to recover, and who makes room for that.
TEST(ScheduledLogNoAsanTest, ALogThatIsDeletedFromIsRecovered) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    SeededLog log(seed);
    log.options.verification = Verification::all;
    ASSERT_NO_FATAL_FAILURE(write_segments(log));
    log.disk.set_capacity_bytes(0);
    log.disk.writes_may_hit_no_space(true);
    auto& wal = log.open();
    Schedule schedule(seed);
    ASSERT_EQ(schedule.run([&] {
      const std::jthread deletes([&] { delete_one_by_one(wal); });
      Result<Appended> appended = wal.append(Record::put("key", "10"));
      while (!appended && appended.error().code == ErrorCode::no_space) {
        std::this_thread::sleep_for(std::chrono::microseconds(1));
        if (wal.stats().first_sequence >= seed % 10) {
          log.disk.set_capacity_bytes(64 << 20);
          log.disk.writes_may_hit_no_space(false);
        }
        appended = wal.append(Record::put("key", "10"));
      }
      ASSERT_TRUE(appended) << "seed " << seed << ": " << appended.error().message;
      EXPECT_EQ(appended->sequence, 10U);
    }),
              "");
  }
}

}  // namespace
}  // namespace nori::crash_tests
