#include "segment/segment_name.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>

namespace nori {
namespace {

TEST(SegmentNameTest, EveryIdComesBack) {
  for (const auto id : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{999'999},
                        std::uint64_t{1'000'000}, ~std::uint64_t{0}}) {
    EXPECT_EQ(parse_segment_name(segment_name(id)), id);
  }
}

TEST(SegmentNameTest, AnIdHasSixDigitsOrMore) {
  EXPECT_EQ(segment_name(0), "000000.wal");
  EXPECT_EQ(segment_name(42), "000042.wal");
  EXPECT_EQ(segment_name(999'999), "999999.wal");
  EXPECT_EQ(segment_name(1'000'000), "1000000.wal");
}

TEST(SegmentNameTest, NoIdHasTwoNames) {
  for (const auto* name : {"0.wal", "0000000.wal", "0000042.wal", "42.wal"}) {
    EXPECT_EQ(parse_segment_name(name), std::nullopt) << name;
  }
}

TEST(SegmentNameTest, WhatIsNoSegmentsNameIsRefused) {
  for (const auto* name :
       {"", ".wal", "000000", "000000.WAL", "000000.wal ", " 00000.wal", "000000.wal.0",
        "+00000.wal", "-00001.wal", "00000a.wal", "0x0000.wal", "next.tmp", "ring", "lock",
        "18446744073709551616.wal", "99999999999999999999999.wal"}) {
    EXPECT_EQ(parse_segment_name(name), std::nullopt) << name;
  }
}

TEST(SegmentNameTest, ACompactedFileIsNamedForItsRange) {
  EXPECT_EQ(SegmentFile::compacted(3, 7).name(), "000003-000007.wal");
  EXPECT_EQ(parse_segment_name("000003-000003.wal"), SegmentFile::compacted(3, 3));
  EXPECT_NE(SegmentFile(3), SegmentFile::compacted(3, 3));
  const auto file = parse_segment_name("999999-1000000.wal");
  ASSERT_EQ(file, SegmentFile::compacted(999'999, 1'000'000));
  EXPECT_TRUE(file->covers(1'000'000));
  EXPECT_FALSE(file->covers(999'998));
  for (const auto* name :
       {"000007-000003.wal", "000003-7.wal", "000003-.wal", "-000003.wal", "000003--000007.wal",
        "000003-000007-000009.wal", "000003-000007", "3-000007.wal", "000003 000007.wal"}) {
    EXPECT_EQ(parse_segment_name(name), std::nullopt) << name;
  }
}

TEST(SegmentNameTest, ALogLeavesTheseNamesAndNoOthers) {
  for (const auto* name : {"000000.wal", "1234567.wal", "000000-000001.wal", "compact.tmp",
                           "next.tmp", "ring", "ring.tmp", "probe.tmp", "lock", "quarantine"}) {
    EXPECT_TRUE(is_log_file_name(name)) << name;
  }
  for (const auto* name : {"", "a.wal", "000000.tmp", "Ring", "lock.1", "notes.txt"}) {
    EXPECT_FALSE(is_log_file_name(name)) << name;
  }
}

}  // namespace
}  // namespace nori
