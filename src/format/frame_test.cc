#include "format/frame.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/crc32c.h"
#include "base/little_endian.h"
#include "format/log_id.h"
#include "format/segment_header.h"
#include "testing/random.h"

namespace nori {
namespace {

constexpr std::uint64_t kOffset = 4096;
constexpr std::uint64_t kEpoch = (std::uint64_t{5} << 40) | 0x1234567890;
constexpr std::string_view kPayload = "a payload of 24 bytes, ok";

constexpr std::uint64_t epoch(std::uint64_t number, std::uint64_t random = 1) {
  return number << 40 | random;
}

LogId log_id() {
  LogId id;
  for (std::size_t i = 0; i < id.bytes.size(); ++i) {
    id.bytes[i] = static_cast<std::byte>(0xa0 + i);
  }
  return id;
}

/// A frame of records, at a place, and bytes of it to be changed.
class FrameTest : public ::testing::Test {
 protected:
  FrameTest() {
    header_.kind = FrameKind::records;
    header_.record_count = 3;
    header_.payload_bytes = kPayload.size();
    header_.payload_crc32c = crc32c(0, as_byte_view(kPayload));
    header_.first_sequence = 1000;
    header_.epoch = kEpoch;
    header_.time_ms = 0x0000'1234'5678'9abc;
    header_.durable_mark = 900;
    encode();
  }

  void encode() { encode_frame_header(header_, seed_, bytes_.data()); }

  /// As encode(), with whatever is in the bytes: what a writer that is not ours might write.
  void fix_checksum() { store_le(bytes_.data(), crc32c(seed_, ByteView(bytes_).subspan(4))); }

  [[nodiscard]] std::optional<FrameHeader> decode() const {
    return decode_frame_header(bytes_, seed_);
  }

  void set_kind_and_count(std::uint32_t kind, std::uint32_t count) {
    store_le(&bytes_[12], kind << 28 | count);
    fix_checksum();
  }

  FrameHeader header_;
  std::uint32_t seed_ = place_seed(segment_seed(log_id(), 2, 7), kOffset);
  std::array<std::byte, kFrameHeaderBytes> bytes_{};
};

void expect_equal(const FrameHeader& a, const FrameHeader& b) {
  EXPECT_EQ(a.kind, b.kind);
  EXPECT_EQ(a.record_count, b.record_count);
  EXPECT_EQ(a.payload_bytes, b.payload_bytes);
  EXPECT_EQ(a.payload_crc32c, b.payload_crc32c);
  EXPECT_EQ(a.first_sequence, b.first_sequence);
  EXPECT_EQ(a.epoch, b.epoch);
  EXPECT_EQ(a.time_ms, b.time_ms);
  EXPECT_EQ(a.durable_mark, b.durable_mark);
}

TEST_F(FrameTest, AHeaderComesBackAsItWas) {
  const auto back = decode();
  ASSERT_TRUE(back);
  expect_equal(*back, header_);
  EXPECT_TRUE(may_be_frame_header(bytes_.data()));
  EXPECT_TRUE(payload_matches(*back, as_byte_view(kPayload)));
}

TEST_F(FrameTest, TheLimitsComeBackToo) {
  header_.record_count = static_cast<std::uint32_t>(kRecordsPerFrameMax);
  header_.payload_bytes = kPayloadBytesMax;
  header_.first_sequence = kCountMax;
  header_.epoch = ~std::uint64_t{0};
  header_.time_ms = (std::uint64_t{1} << 48) - 1;
  header_.durable_mark = header_.first_sequence;
  encode();
  const auto back = decode();
  ASSERT_TRUE(back);
  expect_equal(*back, header_);
  EXPECT_EQ(back->frame_bytes(), (std::uint64_t{1} << 32) + kFrameHeaderBytes - 1);
  header_.first_sequence = header_.durable_mark = kCountMax + 1;
  encode();
  EXPECT_FALSE(decode());
}

TEST_F(FrameTest, EveryFlippedBitOfAHeaderIsNoticed) {
  for (std::size_t bit = 0; bit < bytes_.size() * 8; ++bit) {
    const auto mask = static_cast<std::byte>(1U << (bit % 8));
    bytes_[bit / 8] ^= mask;
    EXPECT_FALSE(decode()) << "bit " << bit;
    bytes_[bit / 8] ^= mask;
  }
  EXPECT_TRUE(decode());
}

TEST_F(FrameTest, EveryFlippedBitOfAPayloadIsNoticed) {
  std::string payload(kPayload);
  for (std::size_t bit = 0; bit < payload.size() * 8; ++bit) {
    const auto before = payload[bit / 8];
    payload[bit / 8] = static_cast<char>(before ^ (1 << (bit % 8)));
    EXPECT_FALSE(payload_matches(header_, as_byte_view(payload))) << "bit " << bit;
    payload[bit / 8] = before;
  }
}

TEST_F(FrameTest, EveryTruncationIsNoticed) {
  for (std::size_t bytes = 0; bytes < kFrameHeaderBytes; ++bytes) {
    EXPECT_FALSE(decode_frame_header(ByteView(bytes_).first(bytes), seed_)) << bytes;
  }
  for (std::size_t bytes = 0; bytes < kPayload.size(); ++bytes) {
    EXPECT_FALSE(payload_matches(header_, as_byte_view(kPayload.substr(0, bytes)))) << bytes;
  }
  EXPECT_FALSE(payload_matches(header_, as_byte_view(std::string(kPayload) + '\0')));
}

TEST_F(FrameTest, ZerosAreNoHeader) {
  bytes_.fill(std::byte{0});
  for (const auto seed : {0U, 1U, seed_}) {
    EXPECT_FALSE(decode_frame_header(bytes_, seed));
  }
}

TEST_F(FrameTest, AHeaderIsValidAtOnePlaceOnly) {
  const auto valid_at = [&](const LogId& id, std::uint32_t generation, std::uint64_t segment,
                            std::uint64_t offset) {
    return decode_frame_header(bytes_, place_seed(segment_seed(id, generation, segment), offset))
        .has_value();
  };
  ASSERT_TRUE(valid_at(log_id(), 2, 7, kOffset));
  for (unsigned bit = 0; bit < 64; ++bit) {
    EXPECT_FALSE(valid_at(log_id(), 2, 7, kOffset ^ (std::uint64_t{1} << bit))) << bit;
    EXPECT_FALSE(valid_at(log_id(), 2, 7 ^ (std::uint64_t{1} << bit), kOffset)) << bit;
  }
  for (unsigned bit = 0; bit < 32; ++bit) {
    EXPECT_FALSE(valid_at(log_id(), 2 ^ (1U << bit), 7, kOffset)) << bit;
  }
  for (unsigned bit = 0; bit < 128; ++bit) {
    auto id = log_id();
    id.bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    EXPECT_FALSE(valid_at(id, 2, 7, kOffset)) << bit;
  }
  for (std::uint64_t offset = 0; offset < 3 * kOffset; ++offset) {
    EXPECT_EQ(valid_at(log_id(), 2, 7, offset), offset == kOffset) << offset;
  }
}

// Goal: a payload alone, without the header written with it, is bound to its place too.
TEST_F(FrameTest, APayloadsChecksumDependsOnThePlace) {
  const auto stored_at = [&](std::uint32_t seed) {
    std::array<std::byte, kFrameHeaderBytes> bytes;
    encode_frame_header(header_, seed, bytes.data());
    return load_le<std::uint32_t>(&bytes[4]);
  };
  EXPECT_NE(stored_at(seed_), stored_at(seed_ + 1));
}

// Method: the seeds of a stretch of offsets, sorted; the difference of two seeds depends on the
// distance of the offsets alone, so that one stretch stands for all.
TEST_F(FrameTest, NoTwoOffsetsOfAStretchShareASeed) {
  std::vector<std::uint32_t> seeds;
  for (std::uint64_t offset = 0; offset < (1U << 20); ++offset) {
    seeds.push_back(place_seed(0, offset));
  }
  for (std::uint64_t block = 1; block < (1U << 18); ++block) {
    seeds.push_back(place_seed(0, (1U << 20) + block * 4096));
  }
  std::ranges::sort(seeds);
  EXPECT_EQ(std::ranges::adjacent_find(seeds), seeds.end());
}

TEST_F(FrameTest, OnlyDefinedKindsAreValid) {
  for (std::uint32_t kind = 0; kind < 16; ++kind) {
    set_kind_and_count(kind, kind == 1 ? 1 : 0);
    EXPECT_EQ(decode().has_value(), kind >= 1 && kind <= 6) << kind;
  }
}

TEST_F(FrameTest, AFrameHasRecordsIfItsKindSaysSoAndOnlyThen) {
  for (std::uint32_t kind = 1; kind <= 6; ++kind) {
    for (const std::uint32_t count : {0U, 1U, static_cast<std::uint32_t>(kRecordsPerFrameMax)}) {
      set_kind_and_count(kind, count);
      EXPECT_EQ(decode().has_value(), (kind == 1) == (count != 0)) << kind << ' ' << count;
    }
  }
}

TEST_F(FrameTest, AMarkBelowZeroIsRefused) {
  store_le(&bytes_[16], std::uint64_t{10});
  for (const std::uint32_t distance : {11U, 0xffff'fffeU, 0xffff'ffffU}) {
    store_le(&bytes_[38], distance);
    fix_checksum();
    EXPECT_FALSE(decode()) << distance;
  }
  store_le(&bytes_[38], std::uint32_t{10});
  fix_checksum();
  ASSERT_TRUE(decode());
  EXPECT_EQ(decode()->durable_mark, 0U);
}

TEST_F(FrameTest, AMarkIsNeverStatedHigherThanItWas) {
  constexpr auto kFar = std::uint64_t{0xffff'ffff};
  header_.first_sequence = 3 * kFar;
  for (const auto distance : {std::uint64_t{0}, kFar - 1, kFar, kFar + 1, 2 * kFar, 3 * kFar}) {
    header_.durable_mark = header_.first_sequence - distance;
    encode();
    ASSERT_TRUE(decode());
    EXPECT_EQ(decode()->durable_mark, distance < kFar ? header_.durable_mark : 0) << distance;
  }
  // A mark that is beyond the frame is stated up to the frame.
  header_.durable_mark = header_.first_sequence + 5;
  encode();
  ASSERT_TRUE(decode());
  EXPECT_EQ(decode()->durable_mark, header_.first_sequence);
}

// Goal: recovery can write a frame again with the same bytes.
// Method: whatever is accepted, also from a writer that is not ours, is encoded to what it was.
TEST_F(FrameTest, WhatIsDecodedEncodesToTheSameBytes) {
  testing::Random random(7);
  int accepted = 0;
  for (int i = 0; i < 20'000; ++i) {
    for (auto& byte : bytes_) {
      // Half of them near the ends of the fields' ranges.
      byte = random.coin() ? static_cast<std::byte>(random.next())
                           : static_cast<std::byte>(random.coin() ? 0 : 0xff);
    }
    set_kind_and_count(random.coin() ? 1 : 2, random.coin() ? 1 : 0);
    const auto header = decode();
    if (!header) {
      continue;
    }
    ++accepted;
    auto again = bytes_;
    encode_frame_header(*header, seed_, again.data());
    ASSERT_EQ(again, bytes_);
    EXPECT_LE(header->durable_mark, header->first_sequence);
  }
  EXPECT_GT(accepted, 1000);
}

TEST_F(FrameTest, WhatAnOpeningSaysComesBack) {
  std::array<std::byte, 100> payload{};
  encode_opening({.previous_epoch = kEpoch}, payload.data());
  const auto opening = decode_opening(payload);
  ASSERT_TRUE(opening);
  EXPECT_EQ(opening->previous_epoch, kEpoch);
  EXPECT_FALSE(decode_opening(ByteView(payload).first(kOpeningPayloadBytes - 1)));
}

TEST_F(FrameTest, WhatARotationSaysComesBack) {
  std::array<std::byte, 100> payload{};
  encode_rotation({.next_segment_id = 8, .next_offset = 4096, .next_ring_base = 1 << 20},
                  payload.data());
  const auto rotation = decode_rotation(payload);
  ASSERT_TRUE(rotation);
  EXPECT_EQ(rotation->next_segment_id, 8U);
  EXPECT_EQ(rotation->next_offset, 4096U);
  EXPECT_EQ(rotation->next_ring_base, 1U << 20);
  EXPECT_FALSE(decode_rotation(ByteView(payload).first(kRotationPayloadBytes - 1)));
}

// Recovery makes a file of what a rotation says, with room for a header before the first frame.
TEST_F(FrameTest, ARotationLeadsBehindAHeaderAndNotFar) {
  const auto leads_to = [](std::uint64_t offset, std::uint64_t ring_base = 0) {
    std::array<std::byte, kRotationPayloadBytes> payload{};
    encode_rotation({.next_segment_id = 8, .next_offset = offset, .next_ring_base = ring_base},
                    payload.data());
    return decode_rotation(payload).has_value();
  };
  EXPECT_TRUE(leads_to(kSegmentHeaderBytes));
  EXPECT_TRUE(leads_to(kFirstOffsetMax));
  EXPECT_FALSE(leads_to(0));
  EXPECT_FALSE(leads_to(kSegmentHeaderBytes - 1));
  EXPECT_FALSE(leads_to(kFirstOffsetMax + 1));
  EXPECT_FALSE(leads_to(~std::uint64_t{0}));
  EXPECT_TRUE(leads_to(4096, kCountMax));
  EXPECT_FALSE(leads_to(4096, kCountMax + 1));
}

/// A chain at record 100 of epoch 5, and the frames that might come next.
class FrameChainTest : public ::testing::Test {
 protected:
  static FrameHeader frame(FrameKind kind, Sequence first, std::uint64_t epoch_bits) {
    FrameHeader header;
    header.kind = kind;
    header.record_count = kind == FrameKind::records ? 3 : 0;
    header.first_sequence = first;
    header.epoch = epoch_bits;
    header.time_ms = 77;
    return header;
  }

  [[nodiscard]] bool continued_by(const FrameHeader& header, ByteView payload = {}) const {
    return chain_.continued_by(header, payload);
  }
  [[nodiscard]] bool continued_by_opening(std::uint64_t epoch_bits,
                                          std::uint64_t previous_epoch) const {
    std::array<std::byte, kOpeningPayloadBytes> payload;
    encode_opening({.previous_epoch = previous_epoch}, payload.data());
    return continued_by(frame(FrameKind::opening, 100, epoch_bits), payload);
  }

  FrameChain chain_{.next_sequence = 100, .epoch = epoch(5), .time_ms = 50};
};

TEST_F(FrameChainTest, GoesOnWithTheNextSequenceInTheSameEpoch) {
  for (const auto kind : {FrameKind::records, FrameKind::padding, FrameKind::close}) {
    EXPECT_TRUE(continued_by(frame(kind, 100, epoch(5))));
    EXPECT_FALSE(continued_by(frame(kind, 99, epoch(5))));
    EXPECT_FALSE(continued_by(frame(kind, 101, epoch(5))));
  }
}

TEST_F(FrameChainTest, AFrameOfAnotherEpochIsAGhost) {
  for (const auto kind : {FrameKind::records, FrameKind::padding, FrameKind::close}) {
    EXPECT_FALSE(continued_by(frame(kind, 100, epoch(4))));
    EXPECT_FALSE(continued_by(frame(kind, 100, epoch(6))));
    // The same number, drawn by another life of the log.
    EXPECT_FALSE(continued_by(frame(kind, 100, epoch(5, 2))));
  }
}

TEST_F(FrameChainTest, OnlyAnOpeningBeginsAHigherEpoch) {
  EXPECT_TRUE(continued_by_opening(epoch(6), epoch(5)));
  EXPECT_TRUE(continued_by_opening(epoch(9, 123), epoch(5)));
  EXPECT_FALSE(continued_by_opening(epoch(5), epoch(5)));
  EXPECT_FALSE(continued_by_opening(epoch(5, 2), epoch(5)));
  EXPECT_FALSE(continued_by_opening(epoch(4), epoch(5)));
}

TEST_F(FrameChainTest, InACompactedFileAHigherEpochNeedsNoOpening) {
  const auto may_be_continued = [&](FrameKind kind, Sequence first, std::uint64_t epoch_bits) {
    return chain_.may_be_continued_in_compacted(frame(kind, first, epoch_bits));
  };
  for (const auto kind : {FrameKind::compacted, FrameKind::rotation}) {
    EXPECT_TRUE(may_be_continued(kind, 100, epoch(5)));
    EXPECT_TRUE(may_be_continued(kind, 100, epoch(6)));
    EXPECT_FALSE(may_be_continued(kind, 100, epoch(5, 2))) << "of another life";
    EXPECT_FALSE(may_be_continued(kind, 100, epoch(4)));
    EXPECT_FALSE(may_be_continued(kind, 99, epoch(5)));
    EXPECT_FALSE(may_be_continued(kind, 101, epoch(5)));
  }
  for (const auto kind : {FrameKind::records, FrameKind::padding, FrameKind::opening}) {
    EXPECT_FALSE(may_be_continued(kind, 100, epoch(5)));
  }
}

TEST_F(FrameChainTest, AnOpeningIsBoundToItsPredecessor) {
  EXPECT_FALSE(continued_by_opening(epoch(6), epoch(4)));
  EXPECT_FALSE(continued_by_opening(epoch(6), epoch(5, 2)));
  EXPECT_FALSE(continued_by(frame(FrameKind::opening, 100, epoch(6))));
  // Its header alone cannot tell.
  EXPECT_TRUE(chain_.may_be_continued_by(frame(FrameKind::opening, 100, epoch(6))));
}

TEST_F(FrameChainTest, TheFirstOpeningFollowsEpochZero) {
  chain_ = {};
  std::array<std::byte, kOpeningPayloadBytes> payload{};
  EXPECT_TRUE(continued_by(frame(FrameKind::opening, 0, epoch(1)), payload));
  EXPECT_FALSE(continued_by(frame(FrameKind::records, 0, epoch(1))));
}

TEST_F(FrameChainTest, ARotationThatLeadsNowhereIsNoneOfTheChain) {
  std::array<std::byte, kRotationPayloadBytes> payload{};
  const auto rotation = frame(FrameKind::rotation, 100, epoch(5));
  EXPECT_FALSE(continued_by(rotation, payload));
  EXPECT_FALSE(continued_by(rotation));
  encode_rotation({.next_segment_id = 1, .next_offset = 4096, .next_ring_base = 0}, payload.data());
  EXPECT_TRUE(continued_by(rotation, payload));
}

TEST_F(FrameChainTest, AdvancesBehindTheFrameAndNeverBackInTime) {
  chain_.advance(frame(FrameKind::records, 100, epoch(5)));
  EXPECT_EQ(chain_.next_sequence, 103U);
  EXPECT_EQ(chain_.time_ms, 77U);
  auto earlier = frame(FrameKind::opening, 103, epoch(6));
  earlier.time_ms = 1;
  chain_.advance(earlier);
  EXPECT_EQ(chain_.next_sequence, 103U);
  EXPECT_EQ(chain_.epoch, epoch(6));
  EXPECT_EQ(chain_.time_ms, 77U);
}

}  // namespace
}  // namespace nori
