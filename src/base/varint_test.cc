#include "base/varint.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <vector>

namespace nori {
namespace {

constexpr auto kMax = std::numeric_limits<std::uint64_t>::max();

std::vector<std::byte> stored(std::uint64_t value) {
  std::array<std::byte, kVarintBytesMax> bytes;
  return {bytes.data(), store_varint(bytes.data(), value)};
}

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) {
    bytes.push_back(static_cast<std::byte>(value));
  }
  return bytes;
}

/// The number, if `bytes` is one from the first byte to the last.
std::optional<std::uint64_t> loaded(const std::vector<std::byte>& bytes) {
  std::uint64_t value = 0;
  const auto* end = load_varint(bytes.data(), bytes.data() + bytes.size(), value);
  if (end != bytes.data() + bytes.size()) {
    return std::nullopt;
  }
  return value;
}

/// Both sides of every place where a number grows by a byte, and the ends.
std::vector<std::uint64_t> edges() {
  std::vector<std::uint64_t> values{0, kMax - 1, kMax};
  for (unsigned bits = 7; bits < 64; bits += 7) {
    const auto edge = std::uint64_t{1} << bits;
    values.insert(values.end(), {edge - 1, edge, edge + 1});
  }
  return values;
}

TEST(VarintTest, EveryNumberComesBack) {
  for (const auto value : edges()) {
    EXPECT_EQ(loaded(stored(value)), value);
  }
}

TEST(VarintTest, ANumberTakesAByteForEachSevenBits) {
  EXPECT_EQ(stored(0).size(), 1U);
  EXPECT_EQ(stored(127).size(), 1U);
  EXPECT_EQ(stored(128).size(), 2U);
  EXPECT_EQ(stored(300), bytes_of({0xac, 0x02}));
  EXPECT_EQ(stored(kMax >> 1).size(), 9U);
  EXPECT_EQ(stored(kMax).size(), kVarintBytesMax);
}

TEST(VarintTest, EveryTruncationIsNoticed) {
  for (const auto value : edges()) {
    auto bytes = stored(value);
    while (!bytes.empty()) {
      bytes.pop_back();
      EXPECT_EQ(loaded(bytes), std::nullopt) << value << " cut to " << bytes.size();
    }
  }
}

TEST(VarintTest, ALongerFormThanNeededIsRefused) {
  for (const auto value : edges()) {
    auto bytes = stored(value);
    if (bytes.size() < kVarintBytesMax) {
      bytes.back() |= std::byte{0x80};
      bytes.push_back(std::byte{0});
      EXPECT_EQ(loaded(bytes), std::nullopt) << value;
    }
  }
}

TEST(VarintTest, MoreThan64BitsAreRefused) {
  auto bytes = stored(kMax);
  bytes.back() = std::byte{2};
  EXPECT_EQ(loaded(bytes), std::nullopt);
  bytes.back() = std::byte{0x81};
  bytes.push_back(std::byte{0});
  EXPECT_EQ(loaded(bytes), std::nullopt);
  EXPECT_EQ(loaded(std::vector<std::byte>(20, std::byte{0xff})), std::nullopt);
}

TEST(VarintTest, LoadingStopsBehindTheNumber) {
  auto bytes = stored(300);
  bytes.push_back(std::byte{0x7f});
  std::uint64_t value = 0;
  EXPECT_EQ(load_varint(bytes.data(), bytes.data() + bytes.size(), value), bytes.data() + 2);
  EXPECT_EQ(value, 300U);
}

}  // namespace
}  // namespace nori
