// Checkpoints and compactions that are cut short: at every operation, by every failing call, and
// within the opening after it.

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "nori/snapshot.h"
#include "nori/store.h"
#include "testing/crash_points.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"

namespace nori::model_tests {
namespace {

using namespace nori::testing;  // NOLINT: crash_points.h's words

using Contents = std::map<std::string, std::string>;

enum class Act : std::uint8_t { checkpoint, compact };

StoreOptions options_on(SimulatedDisk& disk) {
  StoreOptions options;
  options.wal = small_options();
  options.wal.file_system = &disk;
  options.wal.fsync = FsyncPolicy::os();
  options.snapshots.block_bytes = kKiB;
  options.open_threads = 1;
  return options;
}

Contents contents_of(const Store& store) {
  Contents found;
  auto scan = store.scan();
  while (const auto entry = scan->next()) {
    found.emplace(entry->key, entry->value);
  }
  return found;
}

struct Outcome {
  std::optional<Store> store;
  Result<CheckpointReport> report;
};

std::unique_ptr<Outcome> run(SimulatedDisk& disk, Act act) {
  auto outcome = std::make_unique<Outcome>();
  auto opened = Store::open(options_on(disk));
  if (!opened) {
    outcome->report = std::unexpected(opened.error());
    return outcome;
  }
  outcome->store.emplace(std::move(opened->store));
  outcome->report =
      act == Act::checkpoint ? outcome->store->checkpoint() : outcome->store->compact();
  return outcome;
}

class StoreOnDisk : public ::testing::Test {
 protected:
  // A snapshot, and a log of several segments behind it; all of it durable.
  StoreOnDisk() {
    auto opened = Store::open(options_on(disk_));
    auto& store = opened->store;
    for (int i = 0; i < 60; ++i) {
      (void)store.put(std::to_string(i % 40), std::string(1500, 'a'));
    }
    (void)store.checkpoint();
    for (int i = 0; i < 60; ++i) {
      (void)store.put(std::to_string(i), "new " + std::string(1500, 'b'));
      (void)store.remove(std::to_string(i * 7 % 60));
    }
    (void)store.sync();
    expected_ = contents_of(store);
    disk_.crash_process();
  }

  // Opens what is there, twice with a crash between, and compares.
  void expect_all(SimulatedDisk& disk) {
    for (int life = 0; life < 2; ++life) {
      const auto opened = Store::open(options_on(disk));
      ASSERT_TRUE(opened) << opened.error().message;
      ASSERT_EQ(contents_of(opened->store), expected_);
      disk.crash_process();
    }
  }

  SimulatedDisk disk_{11};
  Contents expected_;
};

class StoreCrashTest : public StoreOnDisk, public ::testing::WithParamInterface<Act> {};

TEST_P(StoreCrashTest, NothingIsLostByACrashAtAnyOperation) {
  std::uint64_t points = 0;
  for_each_crash_point(
      disk_, [](SimulatedDisk& disk) { return run(disk, GetParam()); },
      [&](const SimulatedDisk& disk, Outcome&, std::uint64_t operations) {
        for (const auto& form : kCrashForms) {
          const auto copy = crashed_copy(disk, form, operations);
          copy->crash_process();
          SCOPED_TRACE(std::string(form.name) + " after " + std::to_string(operations));
          expect_all(*copy);
        }
        ++points;
      });
  EXPECT_GT(points * kCrashPointStride, 10U);
}

TEST_P(StoreCrashTest, NorByASecondCrashWithinTheNextOne) {
  for_each_crash_point(
      disk_, [](SimulatedDisk& disk) { return run(disk, GetParam()); },
      [&](const SimulatedDisk& disk, Outcome&, std::uint64_t operations) {
        if (operations % 5 != 0) {
          return;
        }
        const auto first = crashed_copy(disk, kCrashForms[operations % 7], operations);
        first->crash_process();
        for (std::uint64_t second = 1;; second += 7) {
          const auto again = first->clone();
          again->crash_after(second);
          const auto outcome = run(*again, GetParam());
          const bool died = again->dead();
          again->crash_process();
          const auto copy = crashed_copy(*again, kCrashForms[second % 7], second);
          copy->crash_process();
          SCOPED_TRACE(std::to_string(second) + " after " + std::to_string(operations));
          expect_all(*copy);
          if (!died) {
            break;
          }
        }
      });
}

TEST_P(StoreCrashTest, NorByAnyCallThatFails) {
  using On = testing::Operation;
  for (const auto kind : {On::open, On::read, On::status, On::list, On::write, On::sync, On::create,
                          On::rename, On::remove, On::directory_sync}) {
    for (std::uint64_t n = 0;; ++n) {
      const auto disk = disk_.clone();
      disk->fail_nth(kind, n, n % 3 == 0 ? ENOSPC : EIO,
                     n % 2 == 0 ? Repeat::once : Repeat::forever);
      {
        const auto outcome = run(*disk, GetParam());
        if (outcome->store) {
          ASSERT_EQ(contents_of(*outcome->store), expected_);
        }
        disk->crash_process();
      }
      const bool was_hit = disk->faults_hit() > 0;
      disk->clear_faults();
      SCOPED_TRACE(std::string(operation_name(kind)) + " " + std::to_string(n));
      expect_all(*disk);
      if (!was_hit || HasFatalFailure()) {
        break;
      }
      n += n > 40 ? n / 8 : 0;  // many reads are alike
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Acts, StoreCrashTest, ::testing::Values(Act::checkpoint, Act::compact),
                         [](const auto& test) {
                           return test.param == Act::checkpoint ? "Checkpoint" : "Compact";
                         });

class StoreReadBackTest : public StoreOnDisk {};

// What cannot be read back is no reason to remove anything.
TEST_F(StoreReadBackTest, CompactReadsBackBeforeAnythingGoes) {
  std::uint64_t refused = 0;
  for (std::uint64_t n = 0;; ++n) {
    const auto disk = disk_.clone();
    auto opened = Store::open(options_on(*disk));
    ASSERT_TRUE(opened);
    disk->inject({.operations = testing::Operation::read,
                  .after = n,
                  .repeat = Repeat::once,
                  .drops_pages = false,
                  .name_suffix = ".snapshot"});
    const auto report = opened->store.compact();
    if (disk->faults_hit() == 0) {
      break;
    }
    disk->clear_faults();
    if (!report) {
      ++refused;
      const auto files = list_snapshots("log", disk.get());
      ASSERT_TRUE(files && !files->empty());
      EXPECT_EQ(files->front().sequence, 60U) << "the older one went";
    }
    disk->crash_process();
  }
  EXPECT_GT(refused, 3U);
}

}  // namespace
}  // namespace nori::model_tests
