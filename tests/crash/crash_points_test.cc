// A crash at every step of everything a log does, and at every step of the recovery from that.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "nori/wal.h"
#include "testing/crash_points.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"
#include "testing/workload.h"

namespace nori::crash_tests {
namespace {

using namespace nori::testing;  // NOLINT: the language of scripts

struct Case {
  std::string name;
  /// What is there before; ends without a close: a killed process.
  Script before = {};
  Script script;
  FsyncPolicy fsync = FsyncPolicy::os();
  Padding padding = Padding::block;
  IoMode io = IoMode::automatic;
  std::uint64_t ring_bytes = 64 * kKiB;

  friend void PrintTo(const Case& test, std::ostream* to) { *to << test.name; }

  [[nodiscard]] WalOptions options() const {
    auto options = small_options();
    options.fsync = fsync;
    options.padding = padding;
    options.io = io;
    options.ring_bytes = ring_bytes;
    return options;
  }
};

SimulatedDiskOptions disk_options(std::uint64_t seed, std::uint64_t sector_bytes) {
  SimulatedDiskOptions options;
  options.seed = seed;
  options.sector_bytes = sector_bytes;
  return options;
}

// What a log holds when a case's script begins.
struct Start {
  std::unique_ptr<SimulatedDisk> disk;
  ReferenceLog reference;
};

Start start_of(const Case& test, std::uint64_t seed, std::uint64_t sector_bytes) {
  Start start{std::make_unique<SimulatedDisk>(disk_options(seed, sector_bytes)), {}};
  CheckedLog log(*start.disk, test.options());
  EXPECT_TRUE(log.run(test.before)) << log.error()->message;
  EXPECT_EQ(log.problem(), "");
  start.reference = log.reference();
  start.disk->crash_process();
  return start;
}

std::unique_ptr<CheckedLog> run_on(SimulatedDisk& disk, const Case& test, const Start& start) {
  auto log = std::make_unique<CheckedLog>(disk, test.options(), start.reference);
  log->run(test.script);
  log->check_stays_failed();
  return log;
}

bool may_be_missing(const Case& test, const CheckedLog& log) {
  return test.before.empty() && !log.was_opened();
}

const std::vector<Case>& cases() {
  static const std::vector<Case> cases = [] {
    const Script little{open(), append(3), append_durable(1), append_batch(4), append(2),
                        sync(), append(3), wait_durable(),    append(2),       close()};
    // Four segments: one by choice, the others because they are full.
    const Script rotating{open(),
                          append(2),
                          append_batch(14, 1000),
                          rotate(),
                          append(2),
                          sync(),
                          append_batches(5, 14, 1000),
                          append_durable(1),
                          append_batches(3, 14, 1000)};
    const Script large{open(),
                       append(3),
                       append_batch(20, 1000),  // more than a quarter of the ring
                       append(2),
                       append_batch(2, 9000),
                       append_durable(1, 20'000),
                       append(1, 70'000),  // more than a segment
                       append(2),
                       append_batch(100, 1000),
                       sync(),
                       append(2)};
    const Script reopening{open(),  append(2), close(), open(), append(2), sync(),
                           close(), open(),    close(), open(), append(1)};
    const Script deleting{open(),       append_batches(5, 14, 1000),
                          sync(),       append_batches(5, 14, 1000),
                          delete_old(), append(3),
                          rotate(),     rotate(),
                          append(1),    rotate(),
                          delete_old(), append(1),
                          close()};
    // Two into one file, that one and two more into one, and then all of it away.
    const Script compacting{open(),       append_batches(9, 14, 1000),
                            append(3),    rotate(),
                            compact(),    append_batches(9, 14, 1000),
                            sync(),       append_batches(8, 3, 1000),
                            rotate(),     compact(),
                            append(1),    rotate(),
                            delete_old(), append(1),
                            close()};
    const Script torn_before{open(), append_batches(3, 14, 1000), sync(),
                             append_batches(2, 14, 1000), append(2)};
    const Script going_on{open(), append(3, 1000), sync(), append_batches(5, 14, 1000),
                          append_batch(3)};

    struct Variant {
      std::string name;
      FsyncPolicy fsync;
      Padding padding;
      IoMode io;
      std::uint64_t ring_bytes;
    };
    const Variant variants[] = {
        {"Os", FsyncPolicy::os(), Padding::block, IoMode::direct, 64 * kKiB},
        {"OsBuffered", FsyncPolicy::os(), Padding::block, IoMode::buffered, 64 * kKiB},
        {"OsNoRing", FsyncPolicy::os(), Padding::block, IoMode::buffered, WalOptions::kNoRing},
        {"BatchNone", FsyncPolicy::batch(), Padding::none, IoMode::direct, 64 * kKiB},
        {"BatchNoneBuffered", FsyncPolicy::batch(), Padding::none, IoMode::buffered, 64 * kKiB},
        {"BatchNoneNoRing", FsyncPolicy::batch(), Padding::none, IoMode::buffered,
         WalOptions::kNoRing},
        {"Always", FsyncPolicy::always(), Padding::block, IoMode::direct, 64 * kKiB},
        {"AlwaysNone", FsyncPolicy::always(), Padding::none, IoMode::direct, 64 * kKiB},
        {"AlwaysNoRing", FsyncPolicy::always(), Padding::block, IoMode::buffered,
         WalOptions::kNoRing},
    };
    std::vector<Case> made;
    const auto add = [&](const std::string& name, const Script& before, const Script& script,
                         const Variant& variant) {
      made.push_back({.name = name + variant.name,
                      .before = before,
                      .script = script,
                      .fsync = variant.fsync,
                      .padding = variant.padding,
                      .io = variant.io,
                      .ring_bytes = variant.ring_bytes});
    };
    for (const auto& variant : variants) {
      add("Little", {}, little, variant);
      add("Reopening", {}, reopening, variant);
      if (variant.fsync.kind() != FsyncPolicy::Kind::always) {
        add("Rotating", {}, rotating, variant);
        add("Large", {}, large, variant);
        add("Deleting", {}, deleting, variant);
        if (variant.name == "Os" || variant.name == "OsNoRing") {
          add("Compacting", {}, compacting, variant);
        }
        add("Killed", torn_before, going_on, variant);
      }
    }
    return made;
  }();
  return cases;
}

// With every form of crash at every point.
void crash_everywhere(const Case& test, std::uint64_t seed, std::uint64_t sector_bytes) {
  const auto start = start_of(test, seed, sector_bytes);
  std::uint64_t points = 0;
  for_each_crash_point(
      *start.disk, [&](SimulatedDisk& disk) { return run_on(disk, test, start); },
      [&](SimulatedDisk& disk, CheckedLog& log, std::uint64_t operations) {
        ++points;
        ASSERT_EQ(log.problem(), "") << "crash after " << operations;
        ASSERT_EQ(watched(disk, test.options()), "") << "crash after " << operations;
        for (const auto& form : kCrashForms) {
          auto reference = log.reference();
          const auto copy = crashed_copy(disk, form, seed + operations);
          copy->set_tracing(true);
          const auto wrong = check_recovery(*copy, test.options(), reference, form.crash,
                                            may_be_missing(test, log));
          ASSERT_EQ(wrong, "") << test.name << ": seed " << seed << ", sectors of " << sector_bytes
                               << ", crash after " << operations << ", " << form.name << "\n"
                               << trace_of(*copy);
        }
      });
  ::testing::Test::RecordProperty("points", static_cast<int>(points));
}

class CrashPointsTest : public ::testing::TestWithParam<Case> {};

TEST_P(CrashPointsTest, NothingAcknowledgedIsLost) { crash_everywhere(GetParam(), 1, 512); }

INSTANTIATE_TEST_SUITE_P(Every, CrashPointsTest, ::testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

// Goal: recovery can be cut short at any place, any number of times.
// Method: after every crash of a case, crash at every step of opening, appending and closing; then
// the next opening, too, dies at a step that differs each time; the one after that is examined.
class CrashedRecoveryTest : public ::testing::TestWithParam<Case> {};

TEST_P(CrashedRecoveryTest, IsRepeated) {
  const auto& test = GetParam();
  const auto start = start_of(test, 3, 512);
  const Script again{open(), append(2), append_durable(1), close()};
  const auto run_again = [&](SimulatedDisk& disk, const ReferenceLog& reference) {
    auto log = std::make_unique<CheckedLog>(disk, test.options(), reference);
    log->run(again);
    return log;
  };
  for_each_crash_point(
      *start.disk, [&](SimulatedDisk& disk) { return run_on(disk, test, start); },
      [&](SimulatedDisk& disk, CheckedLog& log, std::uint64_t first) {
        const auto& first_form = kCrashForms[first % 2 == 0 ? 0 : 1 + first / 2 % 6];
        const auto crashed = crashed_copy(disk, first_form, first);
        auto reference = log.reference();
        ASSERT_EQ(look_at(*crashed, test.options(), reference, first_form.crash,
                          may_be_missing(test, log)),
                  "")
            << test.name << ": crash after " << first << ", " << first_form.name;
        for_each_crash_point(
            *crashed, [&](SimulatedDisk& again_disk) { return run_again(again_disk, reference); },
            [&](SimulatedDisk& again_disk, CheckedLog& again_log, std::uint64_t second) {
              ASSERT_EQ(again_log.problem(), "") << test.name << ": crash after " << first << ", "
                                                 << first_form.name << "; then after " << second;
              for (const auto& form : {kProcessCrash, kCrashForms[1 + (first + second) % 6]}) {
                auto again_reference = again_log.reference();
                const auto copy = crashed_copy(again_disk, form, first + second);
                ASSERT_EQ(check_recovery(*copy, test.options(), again_reference, form.crash,
                                         may_be_missing(test, log)),
                          "")
                    << test.name << ": crash after " << first << ", " << first_form.name
                    << "; then after " << second << ", " << form.name;
              }
            });
      });
}

INSTANTIATE_TEST_SUITE_P(Every, CrashedRecoveryTest, ::testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace nori::crash_tests
