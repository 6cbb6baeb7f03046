#include "base/little_endian.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>

namespace nori {
namespace {

TEST(LittleEndianTest, TheLowestByteStandsFirst) {
  std::array<std::byte, 8> bytes{};
  store_le(bytes.data(), std::uint64_t{0x0807060504030201});
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    EXPECT_EQ(bytes[i], static_cast<std::byte>(i + 1));
  }
  EXPECT_EQ(load_le<std::uint64_t>(bytes.data()), 0x0807060504030201U);
  EXPECT_EQ(load_le<std::uint32_t>(bytes.data()), 0x04030201U);
  EXPECT_EQ(load_le<std::uint32_t>(bytes.data() + 3), 0x07060504U);
}

TEST(LittleEndianTest, FortyEightBitsLeaveTheBytesBehindThemAlone) {
  std::array<std::byte, 8> bytes;
  bytes.fill(std::byte{0xee});
  store_le48(bytes.data(), 0xffff'0605'0403'0201);
  EXPECT_EQ(load_le48(bytes.data()), 0x0605'0403'0201U);
  EXPECT_EQ(bytes[6], std::byte{0xee});
  EXPECT_EQ(bytes[7], std::byte{0xee});
}

}  // namespace
}  // namespace nori
