#include "format/cursor.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "base/crc32c.h"
#include "base/little_endian.h"

namespace nori {
namespace {

using Bytes = std::array<std::byte, kCursorBytes>;

CursorValue some_value() {
  CursorValue value;
  for (std::size_t i = 0; i < value.log_id.bytes.size(); ++i) {
    value.log_id.bytes[i] = static_cast<std::byte>(i + 1);
  }
  value.position = {.segment_id = 3, .offset = 8192, .sequence = 77};
  value.created_ms = 1000;
  value.committed_ms = 2000;
  value.lag_bytes_max = 1 << 20;
  return value;
}

Bytes some_bytes() {
  Bytes bytes;
  encode_cursor(some_value(), bytes.data());
  return bytes;
}

void sign(Bytes& bytes) { store_le(&bytes[80], crc32c(0, ByteView(bytes).first(80))); }

TEST(CursorFormatTest, ComesBackAsItWasWritten) {
  const auto back = decode_cursor(some_bytes());
  ASSERT_TRUE(back);
  const auto value = some_value();
  EXPECT_EQ(back->log_id, value.log_id);
  EXPECT_EQ(back->position.segment_id, value.position.segment_id);
  EXPECT_EQ(back->position.offset, value.position.offset);
  EXPECT_EQ(back->position.sequence, value.position.sequence);
  EXPECT_EQ(back->created_ms, value.created_ms);
  EXPECT_EQ(back->committed_ms, value.committed_ms);
  EXPECT_EQ(back->lag_bytes_max, value.lag_bytes_max);
}

TEST(CursorFormatTest, EveryFlippedBitIsNoticed) {
  for (std::size_t bit = 0; bit < kCursorBytes * 8; ++bit) {
    auto bytes = some_bytes();
    bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_FALSE(decode_cursor(bytes)) << bit;
  }
}

TEST(CursorFormatTest, EveryOtherLengthIsNone) {
  const auto bytes = some_bytes();
  for (std::size_t length = 0; length < kCursorBytes; ++length) {
    EXPECT_FALSE(decode_cursor(ByteView(bytes).first(length))) << length;
  }
  std::vector<std::byte> longer(bytes.begin(), bytes.end());
  longer.push_back(std::byte{0});
  EXPECT_FALSE(decode_cursor(longer));
}

TEST(CursorFormatTest, ANewerVersionIsToldFromDamage) {
  auto bytes = some_bytes();
  store_le(&bytes[8], std::uint32_t{2});
  EXPECT_EQ(decode_cursor(bytes).error().fault, HeaderFault::bad);
  sign(bytes);
  EXPECT_EQ(decode_cursor(bytes).error().fault, HeaderFault::unsupported_version);
  EXPECT_EQ(decode_cursor(bytes).error().version, 2U);
}

TEST(CursorFormatTest, NumbersThatWouldWrapAreNone) {
  for (const std::size_t field : {32, 48}) {
    auto bytes = some_bytes();
    store_le(&bytes[field], kCountMax + 1);
    sign(bytes);
    EXPECT_FALSE(decode_cursor(bytes)) << field;
    store_le(&bytes[field], kCountMax);
    sign(bytes);
    EXPECT_TRUE(decode_cursor(bytes)) << field;
  }
}

TEST(CursorFormatTest, ZerosAreBlank) {
  EXPECT_EQ(decode_cursor(Bytes{}).error().fault, HeaderFault::blank);
}

}  // namespace
}  // namespace nori
