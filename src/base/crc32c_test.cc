#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/little_endian.h"

namespace nori {
namespace {

std::uint32_t crc_of(std::string_view text, std::uint32_t seed = 0) {
  return crc32c(seed, as_byte_view(text));
}

// The check value of the CRC catalogue, and RFC 3720, B.4.
TEST(Crc32cTest, IsTheOneOfTheStandards) {
  EXPECT_EQ(crc_of("123456789"), 0xe3069283U);
  EXPECT_EQ(crc_of(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(crc_of(std::string(32, '\xff')), 0x62a8ab43U);
  std::string rising;
  for (char c = 0; c < 32; ++c) {
    rising.push_back(c);
  }
  EXPECT_EQ(crc_of(rising), 0x46dd794eU);
}

// Bit by bit, as the standard writes it.
std::uint32_t slow_crc_of(std::string_view text) {
  std::uint32_t state = ~std::uint32_t{0};
  for (const char byte : text) {
    state ^= static_cast<std::uint8_t>(byte);
    for (int bit = 0; bit < 8; ++bit) {
      state = (state >> 1) ^ ((state & 1) != 0 ? 0x82f63b78U : 0);
    }
  }
  return ~state;
}

// Short and long inputs go different ways.
TEST(Crc32cTest, IsTheSameAtEveryLength) {
  std::string text;
  for (int i = 0; i < 700; ++i) {
    text.push_back(static_cast<char>(i * i * 31));
    const auto from = static_cast<std::size_t>(i) % 9;  // nor does it matter where it begins
    const auto part = std::string_view(text).substr(from);
    ASSERT_EQ(crc_of(part), slow_crc_of(part)) << part.size();
  }
}

TEST(Crc32cTest, IsTheSameOfWordsInRegisters) {
  std::array<std::byte, 40> bytes;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(i * i * 31 + 1);
  }
  const auto word = [&](std::size_t i) { return load_le<std::uint64_t>(&bytes[8 * i]); };
  // What the last word has beyond its six bytes does not count.
  EXPECT_EQ(crc32c_of_words(7, word(0), word(1), word(2), word(3), word(4)),
            crc32c(7, ByteView(bytes).first(38)));
}

TEST(Crc32cTest, OfNothingIsTheSeed) {
  EXPECT_EQ(crc_of(""), 0U);
  EXPECT_EQ(crc_of("", 0x12345678), 0x12345678U);
}

TEST(Crc32cTest, CanBeTakenPieceByPiece) {
  std::string text;
  for (int i = 0; i < 100; ++i) {
    text.push_back(static_cast<char>(i * 37));
  }
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    EXPECT_EQ(crc_of(text.substr(cut), crc_of(text.substr(0, cut))), crc_of(text)) << cut;
  }
}

// As many bytes as go either way, in pieces that do, some of them empty.
TEST(Crc32cTest, OfPiecesIsThatOfTheWhole) {
  std::string text;
  for (int i = 0; i < 700; ++i) {
    text.push_back(static_cast<char>(i * 37));
  }
  const auto all = as_byte_view(text);
  for (std::size_t cut = 0; cut <= text.size(); cut += 3) {
    for (const std::size_t bytes : {0U, 1U, 7U, 40U, 300U}) {
      const auto end = std::min(cut + bytes, all.size());
      const std::array pieces = {all.first(cut), all.subspan(cut, end - cut), all.subspan(end)};
      ASSERT_EQ(crc32c_of_pieces(pieces), crc32c(0, all)) << cut << " " << end;
    }
  }
  EXPECT_EQ(crc32c_of_pieces({}), 0U);
}

// What makes a place's number fit as a seed: for given bytes, unlike seeds give unlike checksums.
TEST(Crc32cTest, UnlikeSeedsNeverMeet) {
  for (unsigned bit = 0; bit < 32; ++bit) {
    EXPECT_NE(crc_of("frame", 7), crc_of("frame", 7 ^ (1U << bit)));
  }
}

}  // namespace
}  // namespace nori
