// One disk, many lives of a log: each opens what the last crash left, and dies somewhere.

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "nori/wal.h"
#include "testing/crash_points.h"
#include "testing/random.h"
#include "testing/simulated_disk.h"
#include "testing/workload.h"
#include "tests/crash/recovered_log.h"

namespace nori::crash_tests {
namespace {

using namespace nori::testing;  // NOLINT: the language of scripts

Step random_step(Random& random) {
  constexpr std::uint64_t kValueBytes[] = {0, 100, 100, 1000, 4000, 9000};
  const auto value_bytes = kValueBytes[random.below(6)];
  switch (random.below(16)) {
    case 0:
    case 1:
      return sync();
    case 2:
      return wait_durable();
    case 3:
      return rotate();
    case 4:
      return random.coin() ? delete_old() : sync();
    case 5:
      return append(1, random.coin() ? 17'000 : 70'000);
    case 6:
    case 7:
      return append_batch(1 + random.below(20), value_bytes);
    case 8:
    case 9:
      return append_durable(1 + random.below(2), value_bytes);
    default:
      return append(1 + random.below(8), value_bytes);
  }
}

WalOptions random_options(Random& random, bool direct) {
  auto options = small_options();
  const FsyncPolicy policies[] = {FsyncPolicy::os(), FsyncPolicy::batch(), FsyncPolicy::os(),
                                  FsyncPolicy::always()};
  options.fsync = policies[random.below(4)];
  options.io = direct ? IoMode::direct : IoMode::buffered;
  options.ring_bytes = 64 * kKiB << random.below(3);
  options.segment_bytes = 64 * kKiB << random.below(3);
  if (!direct && random.coin()) {
    options.ring_bytes = WalOptions::kNoRing;
  }
  options.verification = random.chance(64) ? Verification::all : Verification::tail;
  return options;
}

// Goal: no life loses what was promised in an earlier one, or finds what no longer was.
// Method: what is there after each crash is compared with a reference and becomes it.
void live_and_die(std::uint64_t first_seed) {
  for (auto seed = first_seed; seed < first_seed + 12; ++seed) {
    Random random(seed);
    SimulatedDiskOptions disk_options;
    disk_options.seed = seed;
    disk_options.sector_bytes = random.coin() ? 512 : 4096;
    SimulatedDisk disk(disk_options);
    disk.set_tracing(true);
    const bool direct = random.coin();
    const auto padding = random.chance(170) ? Padding::block : Padding::none;
    ReferenceLog reference;
    bool exists = false;
    for (int life = 0; life < 20; ++life) {
      auto options = random_options(random, direct);
      options.padding = padding;
      if (!random.chance(32)) {
        // Often within the recovery.
        disk.crash_after(random.below(random.coin() ? 12 : 80));
      }
      const auto& form = kCrashForms[random.coin() ? 0 : random.below(std::size(kCrashForms))];
      {
        CheckedLog log(disk, options, reference);
        log.run(open());
        for (int step = 0; !log.error() && step < 16; ++step) {
          log.run(random_step(random));
        }
        if (!log.error() && random.coin()) {
          log.run(close());
        }
        log.check_stays_failed();
        ASSERT_EQ(log.problem(), "") << "seed " << seed << ", life " << life << "\n"
                                     << trace_of(disk);
        reference = log.reference();
        exists = exists || log.was_opened();
        if (form.crash == Crash::process) {
          disk.crash_process();
        } else {
          disk.power_cut(random.next(), form.options);
        }
      }
      ASSERT_EQ(watched(disk, options), "") << "seed " << seed << ", life " << life << "\n"
                                            << trace_of(disk);
      ASSERT_EQ(look_at(disk, options, reference, form.crash, !exists), "")
          << "seed " << seed << ", life " << life << ", " << form.name << "\n"
          << trace_of(disk);
      disk.advance_ms(static_cast<std::int64_t>(random.below(100)) - 20);
    }
    auto last_options = random_options(random, direct);
    last_options.padding = padding;
    ASSERT_EQ(check_recovery(disk, last_options, reference, Crash::process), "")
        << "seed " << seed << "\n"
        << trace_of(disk);
  }
}

class LivesTest : public ::testing::TestWithParam<std::uint64_t> {};
TEST_P(LivesTest, OfOneLogAddUp) { live_and_die(1000 * GetParam()); }
INSTANTIATE_TEST_SUITE_P(Seeds, LivesTest, ::testing::Range<std::uint64_t>(0, 8));

class LivesNoAsanTest : public LivesTest {};
TEST_P(LivesNoAsanTest, OfOneLogAddUp) { live_and_die(1000 * GetParam()); }
INSTANTIATE_TEST_SUITE_P(Seeds, LivesNoAsanTest, ::testing::Range<std::uint64_t>(8, 24));

}  // namespace
}  // namespace nori::crash_tests
