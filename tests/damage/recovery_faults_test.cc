// What recovery does can fail at every call: a log that needs it stays what it was.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nori/verify.h"
#include "nori/wal.h"
#include "testing/crash_points.h"
#include "testing/simulated_disk.h"
#include "tests/damage/log_states.h"
#include "tests/damage/small_log.h"

namespace nori::damage_tests {
namespace {

using testing::Operation;
using testing::OperationSet;
using testing::Repeat;
using testing::SimulatedDisk;

struct FaultKind {
  OperationSet operations;
  int system_errno;
  bool no_renames = false;  ///< And for want of space no name can be moved.
};

const FaultKind kFaultKinds[] = {
    {Operation::write, EIO},
    {Operation::write, ENOSPC},
    {{Operation::sync, Operation::directory_sync}, EIO},
    {{Operation::open, Operation::create}, EMFILE},
    {Operation::create, ENOSPC},
    {{Operation::rename, Operation::remove, Operation::truncate}, EIO},
    {Operation::rename, ENOSPC},
    {{Operation::remove, Operation::directory_sync}, EIO, true},
};

// An opening makes fewer calls that remove or sync.
constexpr std::uint64_t kCallsMax = 20;

class RecoveryFaultsTest : public ::testing::TestWithParam<LogState> {
 protected:
  // Records that opening for writing finds, or nothing.
  static std::optional<Records> open_and_read(SimulatedDisk& disk) {
    const auto opened = Wal::open(options_on(disk));
    if (!opened) {
      ADD_FAILURE() << opened.error().message;
      return std::nullopt;
    }
    return read_small_log(disk, Verification::all).records;
  }
};

// Goal: a recovery that fails loses nothing: what could be read before can be read when it is tried
// again, and what was durable, or was said to be, also after a power cut.
// Method: each kind of failure, at each call of an opening, once and for good; then the machine
// dies, in two ways.
TEST_P(RecoveryFaultsTest, LoseNothing) {
  const auto start = GetParam().make();
  const auto expected = read_small_log(*start, Verification::all);
  const auto sound = start->clone();
  const auto is_refused = [&] {
    const auto opened = Wal::open(options_on(*sound));
    return !opened && opened.error().code == ErrorCode::damaged;
  }();
  if (is_refused || (expected.error && expected.error->code != ErrorCode::not_a_log) ||
      !same(read_small_log(*sound, Verification::all).records, expected.records)) {
    const auto report = verify(kDirectory, sound.get());
    EXPECT_TRUE(is_refused || (report && !report->damages.empty()));
    return;  // damaged: ReadFaultsTest
  }
  const auto cut = start->clone();
  cut->power_cut(1, {.survival = testing::Survival::nothing});
  const auto after_cut = read_small_log(*cut, Verification::all);
  const auto durable = after_cut.records.size();
  // What only the ring still has whole does not outlive the power.
  const auto report = verify(kDirectory, start.get());
  const bool is_whole = (!after_cut.error || after_cut.error->code == ErrorCode::not_a_log) &&
                        (!report || report->durable_mark <= durable);
  for (const auto& kind : kFaultKinds) {
    for (const auto repeat : {Repeat::once, Repeat::forever}) {
      for (std::uint64_t after = 0;; after += testing::kCrashPointStride) {
        const auto disk = start->clone();
        if (kind.no_renames) {
          disk->fail_nth(Operation::rename, 0, ENOSPC, Repeat::forever);
        }
        disk->fail_nth(kind.operations, after, kind.system_errno, repeat);
        const auto where = fmt::format("kind {}, call {} {}", &kind - kFaultKinds, after,
                                       repeat == Repeat::once ? "once" : "ever");
        auto promised = durable;
        {
          auto opened = Wal::open(options_on(*disk));
          disk->clear_faults();
          if (opened) {
            promised = std::max<std::size_t>(promised, opened->wal.durable_position().sequence);
            auto reader = opened->wal.read_from(begin_of_log);
            ASSERT_TRUE(reader) << where << reader.error().message;
            Records found;
            for (const auto& entry : *reader) {
              ASSERT_TRUE(entry) << where << entry.error().message;
              found.push_back(entry->copy());
            }
            EXPECT_TRUE(same(found, expected.records)) << where;
          } else {
            EXPECT_TRUE(opened.error().code == ErrorCode::io ||
                        opened.error().code == ErrorCode::no_space)
                << where << opened.error().message;
            EXPECT_NE(opened.error().message.find(kDirectory), std::string::npos) << where;
          }
          disk->crash_process();
        }
        const auto power_cut = disk->clone();
        power_cut->power_cut(after, {.survival = testing::Survival::nothing});
        const auto again = open_and_read(*disk);
        EXPECT_TRUE(again && same(*again, expected.records)) << where;
        const auto left = is_whole ? open_and_read(*power_cut) : expected.records;
        EXPECT_TRUE(left && left->size() >= promised && is_prefix(*left, expected.records))
            << where << ": of " << promised << " records " << (left ? left->size() : 0)
            << " are left";
        if (HasFailure()) {
          return;
        }
        if (disk->faults_hit() == 0 || (kind.no_renames && after > kCallsMax)) {
          break;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Every, RecoveryFaultsTest, ::testing::ValuesIn(log_states()),
                         [](const auto& test) { return test.param.name; });
INSTANTIATE_TEST_SUITE_P(More, RecoveryFaultsTest, ::testing::ValuesIn(more_log_states()),
                         [](const auto& test) { return test.param.name; });
INSTANTIATE_TEST_SUITE_P(Again, RecoveryFaultsTest, ::testing::ValuesIn(states_to_write_again()),
                         [](const auto& test) { return test.param.name; });

// What recovery cuts off is kept, up to a limit: then opening says so and goes on.
TEST(QuarantineTest, AFullOneTakesNoMore) {
  const auto disk = make_small_log(Ending::power_cut);
  ASSERT_TRUE(disk->write_file("log/quarantine/large", {}));
  {
    const auto directory = *disk->open_directory("log/quarantine", false);
    const auto file = *directory->open("large", io::Access::write_buffered, io::Creation::existing);
    ASSERT_TRUE(file->truncate(256 * kMiB));
  }
  auto bytes = *disk->read_file("log/000002.wal");
  bytes.resize(LogMap::of(*disk).segments.back().frames_end + 4096);
  bytes.back() = std::byte{1};
  ASSERT_TRUE(disk->write_file("log/000002.wal", bytes));
  const auto expected = read_small_log(*disk, Verification::all);
  EXPECT_TRUE(expected.recovery.torn_tail);
  auto opened = Wal::open(options_on(*disk));
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_TRUE(opened->recovery.quarantined.empty());
  EXPECT_NE(opened->recovery.quarantine_note.find("is full; empty it"), std::string::npos)
      << opened->recovery.quarantine_note;
  ASSERT_TRUE(opened->wal.append(Record::put("new", "record")));
  ASSERT_TRUE(opened->wal.close());
  const auto found = read_small_log(*disk, Verification::all);
  EXPECT_FALSE(found.error) << found.error->message;
  EXPECT_EQ(found.records.size(), expected.records.size() + 1);
  EXPECT_TRUE(is_prefix(expected.records, found.records));
}

}  // namespace
}  // namespace nori::damage_tests
