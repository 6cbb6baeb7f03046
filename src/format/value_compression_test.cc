#include "format/value_compression.h"

#include <gtest/gtest.h>

#include <string>

#include "testing/random.h"

namespace nori {
namespace {

std::string random_bytes(std::size_t count) {
  testing::Random random(count);
  std::string bytes;
  while (bytes.size() < count) {
    bytes.push_back(static_cast<char>(random.next()));
  }
  return bytes;
}

class ValueCompressionTest : public ::testing::TestWithParam<Compression> {};

TEST_P(ValueCompressionTest, WhatShrinksComesBack) {
  for (const std::size_t bytes : {30U, 1000U, 100'000U}) {
    const std::string value(bytes, 'v');
    ValueBuffer buffer;
    auto compression = GetParam();
    const std::string stored(buffer.compress(value, compression));
    ASSERT_EQ(compression, GetParam()) << bytes;
    EXPECT_LT(stored.size(), bytes);
    std::string_view back;
    ASSERT_TRUE(buffer.decompress(compression, stored, bytes, back));
    EXPECT_EQ(back, value);
  }
}

TEST_P(ValueCompressionTest, WhatDoesNotShrinkStaysAsItIs) {
  for (const std::size_t bytes : {0U, 1U, 2U, 1000U, 100'000U}) {
    const auto value = random_bytes(bytes);
    ValueBuffer buffer;
    auto compression = GetParam();
    EXPECT_EQ(buffer.compress(value, compression), value);
    EXPECT_EQ(compression, Compression::none) << bytes;
  }
}

TEST_P(ValueCompressionTest, WhatIsTooLargeStaysAsItIs) {
  const std::string value(kCompressedValueBytesMax + 1, 'v');
  ValueBuffer buffer;
  auto compression = GetParam();
  EXPECT_EQ(buffer.compress(value, compression).data(), value.data());
  EXPECT_EQ(compression, Compression::none);
  compression = GetParam();
  EXPECT_LT(buffer.compress(std::string_view(value).substr(1), compression).size(), value.size());
  EXPECT_EQ(compression, GetParam());
}

TEST_P(ValueCompressionTest, AnotherLengthIsRefused) {
  const std::string value(1000, 'v');
  ValueBuffer buffer;
  auto compression = GetParam();
  const std::string stored(buffer.compress(value, compression));
  std::string_view back;
  for (const std::uint64_t bytes : {std::uint64_t{0}, std::uint64_t{999}, std::uint64_t{1001},
                                    kCompressedValueBytesMax + 1, ~std::uint64_t{0}}) {
    EXPECT_FALSE(buffer.decompress(compression, stored, bytes, back)) << bytes;
  }
  EXPECT_TRUE(buffer.decompress(compression, stored, 1000, back));
}

TEST_P(ValueCompressionTest, AnyBytesAreReadOrRefused) {
  for (std::size_t bytes = 0; bytes < 200; ++bytes) {
    ValueBuffer buffer;
    std::string_view back;
    if (buffer.decompress(GetParam(), random_bytes(bytes), 4096, back)) {
      EXPECT_EQ(back.size(), 4096);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Both, ValueCompressionTest,
                         ::testing::Values(Compression::lz4, Compression::zstd),
                         [](const auto& test) {
                           return test.param == Compression::lz4 ? "Lz4" : "Zstd";
                         });

TEST(ValueBufferTest, WhatIsNotToBeCompressedStays) {
  ValueBuffer buffer;
  const std::string value(1000, 'v');
  auto compression = Compression::none;
  EXPECT_EQ(buffer.compress(value, compression), value);
  EXPECT_EQ(compression, Compression::none);
}

}  // namespace
}  // namespace nori
