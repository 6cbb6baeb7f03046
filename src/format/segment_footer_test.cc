#include "format/segment_footer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/little_endian.h"
#include "format/log_id.h"

namespace nori {
namespace {

constexpr std::uint32_t kSeed = 0x12345678;
constexpr std::uint64_t kEndOffset = 8'192'000;
constexpr std::size_t kIndexEntriesAt = 80;  // in a summary

/// No field is zero.
SegmentSummary summary_with(std::size_t index_entries) {
  SegmentSummary summary{.frames = 11,
                         .records = 22,
                         .padding_bytes = 33,
                         .first_sequence = 1000,
                         .end_sequence = 1022,
                         .first_time_ms = 55,
                         .last_time_ms = 66,
                         .epoch = (std::uint64_t{5} << 40) | 77,
                         .durable_mark = 1021,
                         .end_offset = kEndOffset,
                         .index = {}};
  for (std::size_t i = 0; i < index_entries; ++i) {
    summary.index.push_back({.sequence = 1000 + i, .offset = 4096 + i * 1000, .time_ms = 55 + i});
  }
  return summary;
}

/// What a reader does that knows only the file's bytes from some offset on to the end.
std::optional<SegmentSummary> footer_at_end_of(std::string_view file, std::uint64_t file_offset,
                                               std::uint32_t seed = kSeed) {
  if (file.size() < kFooterTrailerBytes) {
    return std::nullopt;
  }
  const auto bytes = as_byte_view(file);
  const auto footer_bytes = decode_footer_bytes(bytes.last(kFooterTrailerBytes));
  if (!footer_bytes || *footer_bytes > bytes.size()) {
    return std::nullopt;
  }
  return decode_footer(bytes.last(*footer_bytes), seed, file_offset + file.size() - *footer_bytes);
}

TEST(SegmentFooterTest, ASummaryComesBackAsItWas) {
  for (const std::size_t entries : {0U, 1U, 100U}) {
    const auto summary = summary_with(entries);
    const auto bytes = encode_summary(summary);
    EXPECT_EQ(bytes.size(), kSummaryBytes + entries * kIndexEntryBytes);
    EXPECT_EQ(decode_summary(as_byte_view(bytes)), summary);
    EXPECT_EQ(decode_summary(as_byte_view(bytes + "what is behind it")), summary);
  }
}

TEST(SegmentFooterTest, AFooterIsFoundFromTheFilesEndWhateverTheBlock) {
  for (const std::uint64_t block : {512U, 4096U, 65536U}) {
    for (const std::size_t entries : {0U, 1U, 17U, 166U, 167U, 5000U}) {
      const auto summary = summary_with(entries);
      const auto footer = encode_footer(summary, kSeed, block);
      EXPECT_EQ(footer.size() % block, 0U);
      EXPECT_EQ(footer_at_end_of("frames" + footer, kEndOffset - 6), summary);
    }
  }
}

TEST(SegmentFooterTest, EveryFlippedBitIsNoticed) {
  auto footer = encode_footer(summary_with(3), kSeed, 512);
  for (std::size_t bit = 0; bit < footer.size() * 8; ++bit) {
    const auto before = footer[bit / 8];
    footer[bit / 8] = static_cast<char>(before ^ (1 << (bit % 8)));
    EXPECT_FALSE(footer_at_end_of(footer, kEndOffset)) << "bit " << bit;
    footer[bit / 8] = before;
  }
  EXPECT_TRUE(footer_at_end_of(footer, kEndOffset));
}

TEST(SegmentFooterTest, EveryTruncationIsNoticed) {
  const auto footer = encode_footer(summary_with(3), kSeed, 512);
  for (std::size_t bytes = 0; bytes < footer.size(); ++bytes) {
    EXPECT_FALSE(footer_at_end_of(footer.substr(0, bytes), kEndOffset)) << bytes;
    EXPECT_FALSE(decode_footer(as_byte_view(footer).first(bytes), kSeed, kEndOffset)) << bytes;
  }
  const auto summary = encode_summary(summary_with(3));
  for (std::size_t bytes = 0; bytes < summary.size(); ++bytes) {
    EXPECT_FALSE(decode_summary(as_byte_view(summary).first(bytes))) << bytes;
  }
}

TEST(SegmentFooterTest, AFooterIsValidAtOnePlaceOnly) {
  const auto footer = encode_footer(summary_with(3), kSeed, 512);
  for (unsigned bit = 0; bit < 64; ++bit) {
    EXPECT_FALSE(
        decode_footer(as_byte_view(footer), kSeed, kEndOffset ^ (std::uint64_t{1} << bit)));
  }
  for (unsigned bit = 0; bit < 32; ++bit) {
    EXPECT_FALSE(decode_footer(as_byte_view(footer), kSeed ^ (1U << bit), kEndOffset));
  }
}

TEST(SegmentFooterTest, AnIndexRisesWithinTheFrames) {
  const auto refused = [](const SegmentSummary& summary) {
    return !decode_summary(as_byte_view(encode_summary(summary)));
  };
  auto summary = summary_with(3);
  summary.index[1].offset = summary.index[0].offset;
  EXPECT_TRUE(refused(summary));
  summary = summary_with(3);
  summary.index[0].offset = 0;
  EXPECT_TRUE(refused(summary));
  summary = summary_with(3);
  summary.index[2].offset = kEndOffset;
  EXPECT_TRUE(refused(summary));
  summary.index[2].offset = kEndOffset - 1;
  EXPECT_FALSE(refused(summary));
  summary.first_sequence = summary.end_sequence + 1;
  EXPECT_TRUE(refused(summary));
  summary.end_sequence = kCountMax;
  EXPECT_FALSE(refused(summary));
  summary.end_sequence = kCountMax + 1;
  EXPECT_TRUE(refused(summary));
}

TEST(SegmentFooterTest, AHostileCountOfIndexEntriesIsRefused) {
  for (const std::uint32_t entries : {4U, 0x0aaa'aaabU, 0xffff'ffffU}) {
    auto bytes = encode_summary(summary_with(3));
    store_le(reinterpret_cast<std::byte*>(&bytes[kIndexEntriesAt]), entries);
    EXPECT_FALSE(decode_summary(as_byte_view(bytes))) << entries;
  }
}

TEST(SegmentFooterTest, AHostileLengthIsNotFollowed) {
  auto footer = encode_footer(summary_with(0), kSeed, 512);
  auto* length = reinterpret_cast<std::byte*>(&footer[footer.size() - kFooterTrailerBytes]);
  for (const auto bytes : {std::uint64_t{0}, std::uint64_t{20}, std::uint64_t{111},
                           std::uint64_t{513}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    store_le(length, bytes);
    EXPECT_FALSE(footer_at_end_of(footer, kEndOffset)) << bytes;
  }
}

TEST(SegmentFooterTest, AThinnedIndexFitsAndIsStillAnIndex) {
  constexpr std::uint64_t kBytesMax = 4096 - 42;
  const auto full = summary_with(5000);
  auto thin = full;
  thin_index(thin, kBytesMax);
  const auto bytes = encode_summary(thin);
  EXPECT_LE(bytes.size(), kBytesMax);
  EXPECT_GT(bytes.size(), kBytesMax / 3) << "more was left out than had to be";
  EXPECT_EQ(decode_summary(as_byte_view(bytes)), thin);
  for (const auto& entry : thin.index) {
    EXPECT_NE(std::ranges::find(full.index, entry), full.index.end());
  }
  // Evenly: no stretch between two entries is much longer than another.
  std::uint64_t before = full.index.front().offset;
  for (const auto& entry : thin.index) {
    EXPECT_LE(entry.offset - before, 1000 * 2 * (full.index.size() / thin.index.size()));
    before = entry.offset;
  }
}

TEST(SegmentFooterTest, AnIndexThatFitsIsLeftAlone) {
  auto summary = summary_with(10);
  thin_index(summary, kSummaryBytes + 10 * kIndexEntryBytes);
  EXPECT_EQ(summary, summary_with(10));
  thin_index(summary, kSummaryBytes + 10 * kIndexEntryBytes - 1);
  EXPECT_EQ(summary.index.size(), 5U);
  thin_index(summary, 0);
  EXPECT_TRUE(summary.index.empty());
}

}  // namespace
}  // namespace nori
