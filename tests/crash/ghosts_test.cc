// Bytes of another life of the log, or of another lap of the ring, where the next frame would be:
// never returned. (docs/format.md#epochs)

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "nori/wal.h"
#include "testing/crash_points.h"
#include "testing/random.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"
#include "testing/workload.h"

namespace nori::crash_tests {
namespace {

using namespace nori::testing;  // NOLINT: the language of scripts

using Bytes = std::vector<std::byte>;

constexpr std::uint64_t kBlock = 4096;
// With the key, the record's head and the frame's header: exactly a block, so that a frame of one
// life fits exactly where one of another stood.
constexpr std::uint64_t kValueBytesOfBlock = kBlock - 42 - 13 - 4;

Bytes contents(const SimulatedDisk& disk, std::string_view path) {
  return disk.read_file(path).value_or(Bytes{});
}

// A life of the log: what it left, as processes saw it.
struct Life {
  Bytes segment;
  Bytes ring;
};

Life life_on(const SimulatedDisk& disk) {
  return {.segment = contents(disk, "log/000000.wal"), .ring = contents(disk, "log/ring")};
}

// Copies of one block, or a page of zeros where an image ends before it.
void copy_block(Bytes& to, const Bytes& from, std::uint64_t offset) {
  std::array<std::byte, kBlock> block{};
  if (offset + kBlock <= from.size()) {
    std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(offset), kBlock, block.begin());
  }
  std::ranges::copy(block, to.begin() + static_cast<std::ptrdiff_t>(offset));
}

class GhostsTest : public ::testing::TestWithParam<std::uint64_t> {
 protected:
  GhostsTest() {
    options_.fsync = FsyncPolicy::os();
    options_.io = IoMode::buffered;
    options_.ring_bytes = GetParam();
    options_.segment_bytes = 256 * kKiB;
  }

  // Runs a script, and returns what it left when the process is killed.
  Life live(const Script& script) {
    Life life;
    {
      CheckedLog log(disk_, options_, reference_);
      EXPECT_TRUE(log.run(script)) << log.error()->message;
      EXPECT_EQ(log.problem(), "");
      reference_ = log.reference();
      durable_ = crashed_copy(disk_, kPowerKeepsNothing, 1);
      life = life_on(disk_);
      disk_.crash_process();
    }
    return life;
  }

  SimulatedDisk disk_{1};
  WalOptions options_ = small_options();
  ReferenceLog reference_;
  std::unique_ptr<SimulatedDisk> durable_;  ///< What a power cut leaves at worst.
};

// Goal: frames of an earlier opening count as blank.
// Method: three lives write frames of one block each to the same places. Every block behind what is
// durable is then set to what one of the lives wrote there, or zero, in every combination.
TEST_P(GhostsTest, InTheSegmentAreBlank) {
  std::vector<Life> lives;
  lives.push_back(
      live({open(), append(3, kValueBytesOfBlock), sync(), append(5, kValueBytesOfBlock)}));
  ASSERT_EQ(lives[0].segment.size() % kBlock, 0);
  // A power cut that loses all that was not durable, twice.
  disk_.power_cut(1, {.survival = Survival::nothing});
  ASSERT_EQ(look_at(disk_, options_, reference_, Crash::power), "");
  lives.push_back(live({open(), append(7, kValueBytesOfBlock)}));
  disk_.power_cut(2, {.survival = Survival::nothing});
  ASSERT_EQ(look_at(disk_, options_, reference_, Crash::power), "");
  lives.push_back(
      live({open(), append(1, kValueBytesOfBlock), sync(), append(5, kValueBytesOfBlock)}));

  // Header, opening, 3 records; opening, opening, 1 record; then what is not durable.
  constexpr std::uint64_t kDurableBlocks = 8;
  const auto durable = contents(*durable_, "log/000000.wal");
  ASSERT_GE(durable.size(), kDurableBlocks * kBlock);
  constexpr int kBlocks = 5;
  int records_kept_most = 0;
  for (int combination = 0; combination < 4 * 4 * 4 * 4 * 4; ++combination) {
    auto segment = durable;
    segment.resize((kDurableBlocks + kBlocks + 4) * kBlock);
    for (int block = 0, choices = combination; block < kBlocks; ++block, choices /= 4) {
      const auto offset = (kDurableBlocks + static_cast<std::uint64_t>(block)) * kBlock;
      const auto choice = static_cast<std::size_t>(choices % 4);
      copy_block(segment, choice == 3 ? Bytes{} : lives[choice].segment, offset);
    }
    const auto disk = durable_->clone();
    ASSERT_TRUE(disk->write_file("log/000000.wal", segment));
    auto reference = reference_;
    if (combination % 16 == 2) {
      ASSERT_EQ(check_recovery(*disk, options_, reference, Crash::power), "") << combination;
    } else {
      ASSERT_EQ(look_at(*disk, options_, reference, Crash::power), "") << combination;
      records_kept_most = std::max(records_kept_most, static_cast<int>(reference.appended_end()));
    }
  }
  // The combination that is the last life's is among them.
  EXPECT_EQ(records_kept_most, 9);
}

INSTANTIATE_TEST_SUITE_P(NoRing, GhostsTest, ::testing::Values(WalOptions::kNoRing));

// Goal: of the ring's pages any may be kept, lost or stale, each on its own.
// Method: three lives fill rings with frames of the same sizes, the last one round and round; then
// every page is one of what the rings held there at some moment, or zero.
class RingPagesTest : public GhostsTest {};

TEST_P(RingPagesTest, OfAnyAgeAreNotMistaken) {
  options_.io = IoMode::direct;
  std::vector<Bytes> rings;
  rings.push_back(
      live({open(), append(4, kValueBytesOfBlock), sync(), append(11, kValueBytesOfBlock)}).ring);
  disk_.power_cut(1, {.survival = Survival::nothing});
  ASSERT_EQ(look_at(disk_, options_, reference_, Crash::power), "");
  rings.push_back(live({open(), append(11, kValueBytesOfBlock)}).ring);
  disk_.power_cut(2, {.survival = Survival::nothing});
  ASSERT_EQ(look_at(disk_, options_, reference_, Crash::power), "");
  // Rings as they were while this one was written.
  {
    CheckedLog log(disk_, options_, reference_);
    const auto keep = [&] { rings.push_back(contents(disk_, "log/ring")); };
    ASSERT_TRUE(log.run({open(), append(6, kValueBytesOfBlock), sync()}));
    keep();
    ASSERT_TRUE(log.run({append(24, kValueBytesOfBlock), append_durable(1)}));
    keep();
    ASSERT_TRUE(log.run({append(3, kValueBytesOfBlock), append(9), append_batch(5, 500),
                         append(2, kValueBytesOfBlock)}));
    keep();
    ASSERT_EQ(log.problem(), "");
    reference_ = log.reference();
    durable_ = disk_.clone();
    disk_.crash_process();
  }
  Sequence end_most = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    const auto disk = durable_->clone();
    disk->power_cut(seed, {.survival = seed % 2 == 0 ? Survival::nothing : Survival::random});
    Bytes ring(rings.back().size());
    const auto newest_chance = static_cast<unsigned>(64 + seed % 3 * 80);
    for (std::uint64_t offset = 0; offset < ring.size(); offset += kBlock) {
      auto choice = static_cast<std::size_t>(random.below(rings.size() + 1));
      choice = random.chance(newest_chance) ? rings.size() - 1 : choice;
      copy_block(ring, choice == rings.size() ? Bytes{} : rings[choice], offset);
    }
    ASSERT_TRUE(disk->write_file("log/ring", ring));
    auto reference = reference_;
    if (seed % 4 == 0) {
      ASSERT_EQ(check_recovery(*disk, options_, reference, Crash::power), "") << "seed " << seed;
    } else {
      ASSERT_EQ(look_at(*disk, options_, reference, Crash::power), "") << "seed " << seed;
    }
    end_most = std::max(end_most, reference.appended_end());
  }
  EXPECT_GT(end_most, reference_.durable_end());
}

// Goal: what an earlier life left in the ring behind the end is no continuation, though it was
// placed there: right segment, right offset, sound checksums. Method: the pages that the last life
// did not write are those of the one before it.
TEST_P(RingPagesTest, OfAnEarlierLifeBehindTheEndAreBlank) {
  options_.io = IoMode::direct;
  const auto earlier =
      live({open(), append(3, kValueBytesOfBlock), sync(), append(8, kValueBytesOfBlock)}).ring;
  disk_.power_cut(1, {.survival = Survival::nothing});
  ASSERT_EQ(look_at(disk_, options_, reference_, Crash::power), "");
  auto ring = live({open(), append(2, kValueBytesOfBlock)}).ring;
  ASSERT_EQ(ring.size(), earlier.size());
  int pages = 0;
  for (std::uint64_t offset = 0; offset < ring.size(); offset += kBlock) {
    const auto page = ByteView(ring).subspan(offset, kBlock);
    if (std::ranges::all_of(page, [](std::byte byte) { return byte == std::byte{0}; })) {
      copy_block(ring, earlier, offset);
      ++pages;
    }
  }
  EXPECT_GT(pages, 5);
  ASSERT_TRUE(disk_.write_file("log/ring", ring));
  auto reference = reference_;
  ASSERT_EQ(look_at(disk_, options_, reference, Crash::process), "");
  ASSERT_EQ(check_recovery(disk_, options_, reference_, Crash::process), "");
}

INSTANTIATE_TEST_SUITE_P(Ring, RingPagesTest, ::testing::Values(64 * kKiB));

}  // namespace
}  // namespace nori::crash_tests
