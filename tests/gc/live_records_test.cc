#include "log/live_records.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/gc/compaction_fixture.h"

namespace nori::gc_tests {
namespace {

using LiveRecordsTest = CompactionTest;

// Goal: what is found does not depend on how often the range is read for it, nor on the keys'
// hashes.
TEST_F(LiveRecordsTest, AreTheSameWithTheLeastMemory) {
  options_.segment_bytes = kMiB;
  open();
  for (int i = 0; i < 5000; ++i) {
    const auto key = fmt::format("{}", i % 3 == 0 ? i : i % 100);
    ASSERT_TRUE(wal_->append(Record::put(key, "")));
  }
  ASSERT_TRUE(wal_->rotate());
  const auto directory = *disk_.open_directory("log", false);
  const auto log_id = (*SegmentReader::open(*directory, 0))->header()->log_id;
  const std::vector<SealedFile> files{**read_sealed_file(*directory, log_id, 0)};
  const auto find = [&](std::uint64_t memory_bytes, std::uint64_t seed) {
    auto live = find_live_records(*directory, log_id, files, {}, memory_bytes, seed, go_on);
    EXPECT_TRUE(live) << live.error().message;
    return live->is_live;
  };
  const auto expected = find(kMiB, 0);
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    EXPECT_EQ(find(0, seed), expected) << seed;  // 1024 keys at once
  }
}

}  // namespace
}  // namespace nori::gc_tests
