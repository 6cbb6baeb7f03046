// Every call to the disk fails, once and for good; and the disk is full at every size.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
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
using Operation = nori::testing::Operation;

struct FaultCase {
  std::string name;
  std::uint64_t ring_bytes;
  IoMode io;
  FsyncPolicy fsync = FsyncPolicy::os();
  Padding padding = Padding::block;

  friend void PrintTo(const FaultCase& test, std::ostream* to) { *to << test.name; }

  [[nodiscard]] WalOptions options() const {
    auto options = small_options();
    options.ring_bytes = ring_bytes;
    options.io = io;
    options.fsync = fsync;
    options.padding = padding;
    return options;
  }
};

const FaultCase kFaultCases[] = {
    {.name = "Direct", .ring_bytes = 64 * kKiB, .io = IoMode::direct},
    {.name = "Buffered", .ring_bytes = 64 * kKiB, .io = IoMode::buffered, .padding = Padding::none},
    {.name = "NoRing", .ring_bytes = WalOptions::kNoRing, .io = IoMode::buffered},
    {.name = "Always",
     .ring_bytes = 64 * kKiB,
     .io = IoMode::direct,
     .fsync = FsyncPolicy::always()},
};

// A killed process's log.
Script script_before() {
  return {open(), append_batch(10),       append_batch(14, 1000),
          sync(), append_batch(14, 1000), append(2)};
}

// All there is to do, in few calls.
Script script() {
  return {open(),
          append(2),
          append_durable(1),
          append_batches(2, 14, 1000),
          rotate(),
          append_batch(14, 1000),
          wait_durable(),
          append(1, 20'000),
          append_batches(3, 14, 1000),
          sync(),
          delete_old(),
          append(1, 70'000),
          append(2),
          close(),
          open(),
          append(1),
          close()};
}

struct FaultKind {
  OperationSet operations;
  int system_errno;
  bool drops_pages = false;
};

const FaultKind kFaultKinds[] = {
    {Operation::write, EIO},
    {Operation::write, ENOSPC},
    {Operation::durable_write, EIO, true},
    {Operation::sync, EIO},
    {Operation::sync, EIO, true},
    {Operation::sync, ENOSPC, true},
    {Operation::directory_sync, EIO},
    {Operation::allocate, EIO},
    {Operation::allocate, ENOSPC},
    {Operation::truncate, EIO},
    {{Operation::create, Operation::open}, EMFILE},
    {Operation::create, ENOSPC},
    {Operation::rename, EIO},
    {Operation::rename, ENOSPC},
    {Operation::remove, EIO},
    {{Operation::read, Operation::status, Operation::list}, EIO},
    {{Operation::map, Operation::lock}, ENOMEM},
};

class FaultsTest : public ::testing::TestWithParam<FaultCase> {
 protected:
  FaultsTest() {
    CheckedLog log(start_, options(), {});
    EXPECT_TRUE(log.run(script_before())) << log.error()->message;
    EXPECT_EQ(log.problem(), "");
    reference_ = log.reference();
    start_.crash_process();
  }

  static WalOptions options() { return GetParam().options(); }

  // After a failure: what is there is right whatever happens next.
  static std::string check_all_ends(const SimulatedDisk& disk, const CheckedLog& log,
                                    std::uint64_t seed) {
    for (const auto& form : {kProcessCrash, kPowerKeepsNothing, kCrashForms[3 + seed % 4]}) {
      const auto copy = crashed_copy(disk, form, seed);
      auto reference = log.reference();
      if (auto wrong = check_recovery(*copy, options(), reference, form.crash); !wrong.empty()) {
        return fmt::format("then {}: {}", form.name, wrong);
      }
    }
    // What a failed sync dropped is no longer in memory either.
    const auto copy = disk.clone();
    copy->forget_dropped_pages();
    auto reference = log.reference();
    if (auto wrong = check_recovery(*copy, options(), reference, Crash::power); !wrong.empty()) {
      return "then dropped pages are read again: " + wrong;
    }
    return {};
  }

  SimulatedDisk start_{5};
  ReferenceLog reference_;
};

// Goal: no failure loses what was acknowledged, no failure is forgotten, none hangs.
// Method: each kind of failure, at each call it can strike, once and for good. The log is used
// until it fails, tried again, and then the machine dies in several ways.
TEST_P(FaultsTest, OfEveryCallLoseNothing) {
  for (const auto& kind : kFaultKinds) {
    for (const auto repeat : {Repeat::once, Repeat::forever}) {
      for (std::uint64_t after = 0;; after += kCrashPointStride) {
        const auto disk = start_.clone();
        disk->set_tracing(true);
        disk->fail_nth(kind.operations, after, kind.system_errno, repeat, kind.drops_pages);
        CheckedLog log(*disk, options(), reference_);
        const auto all = script();
        std::size_t next = 0;
        while (next < all.size() && log.run(all[next])) {
          ++next;
        }
        const bool struck = disk->faults_hit() != 0;
        disk->clear_faults();
        const auto where = [&] {
          return fmt::format("errno {}, call {} of kind {}, {}; step {}\n{}", kind.system_errno,
                             after, &kind - kFaultKinds, repeat == Repeat::once ? "once" : "ever",
                             next, trace_of(*disk));
        };
        log.check_stays_failed();
        ASSERT_EQ(log.problem(), "") << where();
        // Which can be answered for the failed sync of a full disk, too.
        const bool is_full = log.error() && log.error()->code == ErrorCode::no_space;
        if (is_full && log.wal() != nullptr && !log.wal()->stats().failure) {
          const auto contents = read_all(*log.wal());
          ASSERT_TRUE(contents) << contents.error().message << "\n" << where();
          ASSERT_EQ(log.reference().compare(*contents, Crash::none), "") << where();
          if (after % 2 == 0) {
            // Works again when there is room.
            for (; next < all.size(); ++next) {
              ASSERT_TRUE(log.run(all[next])) << log.error()->message << "\n" << where();
            }
            ASSERT_EQ(log.problem(), "") << where();
          }
        }
        ASSERT_EQ(watched(*disk, options()), "") << where();
        ASSERT_EQ(check_all_ends(*disk, log, after), "") << where();
        disk->crash_process();
        if (!struck) {
          break;
        }
      }
    }
  }
}

// Goal: append answers `no_space` before a byte is visible, and works again when there is room.
// Method: a disk with room for 0, 1, 2, … more blocks.
TEST_P(FaultsTest, AFullDiskTakesNothingBack) {
  const auto all = script();
  for (std::uint64_t blocks = 0;; ++blocks) {
    const auto disk = start_.clone();
    disk->set_tracing(true);
    disk->set_capacity_bytes(1 << 30);
    disk->set_capacity_bytes((1 << 30) - disk->free_bytes() + blocks * 4096);
    CheckedLog log(*disk, options(), reference_);
    const auto where = [&] { return fmt::format("{} blocks\n{}", blocks, trace_of(*disk)); };
    std::size_t next = 0;
    while (next < all.size() && log.run(all[next])) {
      ++next;
    }
    ASSERT_EQ(log.problem(), "") << where();
    if (next == all.size()) {
      break;
    }
    ASSERT_EQ(log.error()->code, ErrorCode::no_space) << log.error()->message << "\n" << where();
    ASSERT_NE(log.wal(), nullptr) << where();
    ASSERT_FALSE(log.wal()->stats().failure) << log.wal()->stats().failure->message << where();
    const auto contents = read_all(*log.wal());
    ASSERT_TRUE(contents) << contents.error().message << "\n" << where();
    ASSERT_EQ(log.reference().compare(*contents, Crash::none), "") << where();
    // A process that dies on a full disk.
    disk->set_capacity_bytes(SimulatedDisk::kUnlimited);
    ASSERT_EQ(check_all_ends(*disk, log, blocks), "") << where();
    for (; next < all.size(); ++next) {
      ASSERT_TRUE(log.run(all[next])) << log.error()->message << "\n" << where();
    }
    ASSERT_EQ(log.problem(), "") << where();
    ASSERT_EQ(watched(*disk, options()), "") << where();
    if (blocks % 4 == 0) {
      ASSERT_EQ(check_all_ends(*disk, log, blocks), "") << where();
    }
    disk->crash_process();
  }
}

INSTANTIATE_TEST_SUITE_P(Every, FaultsTest, ::testing::ValuesIn(kFaultCases),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace nori::crash_tests
