#include "format/segment_header.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "base/crc32c.h"
#include "base/little_endian.h"

namespace nori {
namespace {

/// A header with no field that is zero, apart from the generation, and its bytes to be changed.
class SegmentHeaderTest : public ::testing::Test {
 protected:
  SegmentHeaderTest() {
    for (std::size_t i = 0; i < header_.log_id.bytes.size(); ++i) {
      header_.log_id.bytes[i] = static_cast<std::byte>(0xa0 + i);
    }
    header_.first_segment = header_.last_segment = 7;
    header_.first_sequence = 1000;
    header_.epoch = (std::uint64_t{5} << 40) | 0x1234567890;
    header_.durable_mark = 900;
    header_.created_ms = 1'700'000'000'000;
    header_.first_offset = 4096;
    header_.ring_base = 0x12345000;
    encode();
  }

  void encode() { encode_segment_header(header_, bytes_.data()); }

  /// Makes the checksum that of the bytes, as a writer of another version would.
  void fix_checksum() {
    SegmentHeader seeds = header_;
    std::copy(&bytes_[16], &bytes_[32], seeds.log_id.bytes.begin());
    seeds.generation = load_le<std::uint32_t>(&bytes_[12]);
    seeds.first_segment = load_le<std::uint64_t>(&bytes_[32]);
    store_le(&bytes_[124], crc32c(place_seed(seeds.seed(), 0), ByteView(bytes_).first(124)));
  }

  [[nodiscard]] std::optional<HeaderFault> fault() const {
    const auto header = decode_segment_header(bytes_);
    return header ? std::nullopt : std::optional(header.error().fault);
  }

  SegmentHeader header_;
  std::array<std::byte, kSegmentHeaderBytes> bytes_{};
};

TEST_F(SegmentHeaderTest, ComesBackAsItWas) {
  const auto back = decode_segment_header(bytes_);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->generation, 0U);
  EXPECT_EQ(back->log_id, header_.log_id);
  EXPECT_EQ(back->first_segment, 7U);
  EXPECT_EQ(back->last_segment, 7U);
  EXPECT_EQ(back->first_sequence, header_.first_sequence);
  EXPECT_EQ(back->epoch, header_.epoch);
  EXPECT_EQ(back->durable_mark, header_.durable_mark);
  EXPECT_EQ(back->created_ms, header_.created_ms);
  EXPECT_EQ(back->first_offset, header_.first_offset);
  EXPECT_EQ(back->ring_base, header_.ring_base);
  EXPECT_EQ(back->seed(), header_.seed());
}

TEST_F(SegmentHeaderTest, EveryFlippedBitIsNoticedAndIsNotAnotherVersion) {
  for (std::size_t bit = 0; bit < bytes_.size() * 8; ++bit) {
    const auto mask = static_cast<std::byte>(1U << (bit % 8));
    bytes_[bit / 8] ^= mask;
    EXPECT_EQ(fault(), HeaderFault::bad) << "bit " << bit;
    bytes_[bit / 8] ^= mask;
  }
  EXPECT_EQ(fault(), std::nullopt);
}

TEST_F(SegmentHeaderTest, EveryTruncationIsNoticed) {
  for (std::size_t bytes = 0; bytes < kSegmentHeaderBytes; ++bytes) {
    const auto header = decode_segment_header(ByteView(bytes_).first(bytes));
    ASSERT_FALSE(header) << bytes;
    EXPECT_EQ(header.error().fault, HeaderFault::too_short);
  }
}

TEST_F(SegmentHeaderTest, BlankIsToldFromBad) {
  bytes_.fill(std::byte{0});
  EXPECT_EQ(fault(), HeaderFault::blank);
  bytes_[127] = std::byte{1};
  EXPECT_EQ(fault(), HeaderFault::bad);
}

TEST_F(SegmentHeaderTest, AnUnknownVersionIsNamedAndNoDamage) {
  for (const std::uint32_t version : {0U, 2U, 0x7fff'ffffU}) {
    store_le(&bytes_[8], version);
    store_le(&bytes_[96], 0x55aa55aaU);  // a field that this version does not know
    fix_checksum();
    const auto header = decode_segment_header(bytes_);
    ASSERT_FALSE(header);
    EXPECT_EQ(header.error().fault, HeaderFault::unsupported_version);
    EXPECT_EQ(header.error().version, version);
  }
}

TEST_F(SegmentHeaderTest, OnlyACompactedFileHasSeveralSegments) {
  header_.last_segment = 8;
  encode();
  EXPECT_EQ(fault(), HeaderFault::bad);
  header_.generation = 1;
  encode();
  EXPECT_EQ(fault(), std::nullopt);
  header_.last_segment = 7;
  encode();
  EXPECT_EQ(fault(), std::nullopt);
  header_.last_segment = 6;
  encode();
  EXPECT_EQ(fault(), HeaderFault::bad);
}

TEST_F(SegmentHeaderTest, TheFirstFrameStandsBehindTheHeaderAndNotFar) {
  const auto fault_at = [&](std::uint64_t first_offset) {
    header_.first_offset = first_offset;
    encode();
    return fault();
  };
  EXPECT_EQ(fault_at(kSegmentHeaderBytes), std::nullopt);
  EXPECT_EQ(fault_at(kFirstOffsetMax), std::nullopt);
  for (const auto offset :
       {std::uint64_t{0}, std::uint64_t{127}, kFirstOffsetMax + 1, ~std::uint64_t{0}}) {
    EXPECT_EQ(fault_at(offset), HeaderFault::bad) << offset;
  }
}

// Beyond, ring addresses would wrap, and a writer would copy from behind the ring; and a sequence
// would be taken for one that never comes.
TEST_F(SegmentHeaderTest, WhatItCountsLeavesRoomForALog) {
  for (auto* const field : {&header_.ring_base, &header_.first_sequence, &header_.first_segment}) {
    const auto before = *field;
    for (const auto value : {kCountMax, kCountMax + 1, ~std::uint64_t{0}}) {
      *field = value;
      header_.last_segment = header_.first_segment;
      encode();
      EXPECT_EQ(fault(), value <= kCountMax ? std::nullopt : std::optional(HeaderFault::bad));
    }
    *field = before;
  }
}

TEST_F(SegmentHeaderTest, FramesOfUnlikeSegmentsHaveUnlikeSeeds) {
  auto other = header_;
  other.first_segment = 8;
  EXPECT_NE(other.seed(), header_.seed());
  other = header_;
  other.generation = 1;
  EXPECT_NE(other.seed(), header_.seed());
  other = header_;
  other.log_id.bytes[15] ^= std::byte{1};
  EXPECT_NE(other.seed(), header_.seed());
}

}  // namespace
}  // namespace nori
