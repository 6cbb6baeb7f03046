#include "format/ring_header.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/crc32c.h"
#include "base/little_endian.h"

namespace nori {
namespace {

LogId log_id() {
  LogId id;
  for (std::size_t i = 0; i < id.bytes.size(); ++i) {
    id.bytes[i] = static_cast<std::byte>(0xa0 + i);
  }
  return id;
}

class RingHeaderTest : public ::testing::Test {
 protected:
  RingHeaderTest() { encode(std::uint64_t{1} << 24); }

  void encode(std::uint64_t ring_bytes) {
    encode_ring_header({.log_id = log_id(), .ring_bytes = ring_bytes}, bytes_.data());
  }
  void fix_checksum() { store_le(&bytes_[40], crc32c(0, ByteView(bytes_).first(40))); }

  [[nodiscard]] std::optional<HeaderFault> fault() const {
    const auto header = decode_ring_header(bytes_);
    return header ? std::nullopt : std::optional(header.error().fault);
  }

  std::array<std::byte, kRingHeaderBytes> bytes_{};
};

TEST_F(RingHeaderTest, ComesBackAsItWas) {
  const auto back = decode_ring_header(bytes_);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->log_id, log_id());
  EXPECT_EQ(back->ring_bytes, std::uint64_t{1} << 24);
}

TEST_F(RingHeaderTest, EveryFlippedBitIsNoticedAndIsNotAnotherVersion) {
  for (std::size_t bit = 0; bit < bytes_.size() * 8; ++bit) {
    const auto mask = static_cast<std::byte>(1U << (bit % 8));
    bytes_[bit / 8] ^= mask;
    EXPECT_EQ(fault(), HeaderFault::bad) << "bit " << bit;
    bytes_[bit / 8] ^= mask;
  }
}

TEST_F(RingHeaderTest, EveryTruncationIsNoticed) {
  for (std::size_t bytes = 0; bytes < kRingHeaderBytes; ++bytes) {
    const auto header = decode_ring_header(ByteView(bytes_).first(bytes));
    ASSERT_FALSE(header) << bytes;
    EXPECT_EQ(header.error().fault, HeaderFault::too_short);
  }
}

TEST_F(RingHeaderTest, ARingThatWasNeverWrittenIsBlank) {
  bytes_.fill(std::byte{0});
  EXPECT_EQ(fault(), HeaderFault::blank);
}

TEST_F(RingHeaderTest, AnUnknownVersionIsNamedAndNoDamage) {
  store_le(&bytes_[8], 2U);
  fix_checksum();
  const auto header = decode_ring_header(bytes_);
  ASSERT_FALSE(header);
  EXPECT_EQ(header.error().fault, HeaderFault::unsupported_version);
  EXPECT_EQ(header.error().version, 2U);
}

TEST_F(RingHeaderTest, ASizeThatIsNoPowerOfTwoIsRefused) {
  for (const auto bytes : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{2048},
                           std::uint64_t{4097}, std::uint64_t{12288}, ~std::uint64_t{0}}) {
    encode(bytes);
    EXPECT_EQ(fault(), HeaderFault::bad) << bytes;
  }
  encode(4096);
  EXPECT_EQ(fault(), std::nullopt);
}

/// The first pages of a ring, and what mark they are read as.
class RingMarkTest : public ::testing::Test {
 protected:
  void write(std::uint64_t slot, Sequence mark) {
    encode_ring_mark({.durable_mark = mark, .segment_id = 7}, log_id(), slot, ring_);
  }
  [[nodiscard]] std::optional<Sequence> read() const {
    const auto mark = decode_ring_mark(ring_, log_id());
    return mark ? std::optional(mark->durable_mark) : std::nullopt;
  }
  std::byte& byte_of_slot(std::uint64_t slot, std::size_t byte) {
    return ring_[kRingMarkOffset + slot * kRingMarkStride + byte];
  }

  std::vector<std::byte> ring_ = std::vector<std::byte>(kRingDataOffset);
};

TEST_F(RingMarkTest, ANewRingHasNone) { EXPECT_EQ(read(), std::nullopt); }

TEST_F(RingMarkTest, ComesBackAsItWas) {
  write(0, 1000);
  const auto mark = decode_ring_mark(ring_, log_id());
  ASSERT_TRUE(mark);
  EXPECT_EQ(mark->durable_mark, 1000U);
  EXPECT_EQ(mark->segment_id, 7U);
}

TEST_F(RingMarkTest, TheHigherOneCounts) {
  write(0, 1000);
  write(1, 1001);
  EXPECT_EQ(read(), 1001U);
  write(2, 1002);
  EXPECT_EQ(read(), 1002U);
}

TEST_F(RingMarkTest, ATornSlotLeavesTheOther) {
  write(0, 1000);
  write(1, 2000);
  for (std::size_t bit = 0; bit < kRingMarkBytes * 8; ++bit) {
    const auto mask = static_cast<std::byte>(1U << (bit % 8));
    byte_of_slot(1, bit / 8) ^= mask;
    EXPECT_EQ(read(), 1000U) << "bit " << bit;
    byte_of_slot(1, bit / 8) ^= mask;
  }
  EXPECT_EQ(read(), 2000U);
}

TEST_F(RingMarkTest, AnotherLogsMarkIsNone) {
  write(0, 1000);
  for (unsigned bit = 0; bit < 128; ++bit) {
    auto other = log_id();
    other.bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    EXPECT_FALSE(decode_ring_mark(ring_, other)) << bit;
  }
}

TEST_F(RingMarkTest, EveryTruncationIsNoticed) {
  write(1, 1000);
  for (std::size_t bytes = 0; bytes < kRingMarkOffset + kRingMarkStride + kRingMarkBytes; ++bytes) {
    EXPECT_FALSE(decode_ring_mark(ByteView(ring_).first(bytes), log_id())) << bytes;
  }
}

TEST_F(RingMarkTest, MarksStayOffTheHeadersPageAndTheFrames) {
  write(0, ~std::uint64_t{0});
  write(1, ~std::uint64_t{0});
  for (std::size_t i = 0; i < ring_.size(); ++i) {
    const bool is_mark = (i >= kRingMarkOffset && i < kRingMarkOffset + kRingMarkBytes) ||
                         (i >= kRingMarkOffset + kRingMarkStride &&
                          i < kRingMarkOffset + kRingMarkStride + kRingMarkBytes);
    EXPECT_TRUE(is_mark || ring_[i] == std::byte{0}) << i;
  }
}

}  // namespace
}  // namespace nori
