// The parts of a snapshot's file: header, footer, index, blocks.

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/crc32c.h"
#include "base/little_endian.h"
#include "base/varint.h"
#include "format/snapshot_block.h"
#include "format/snapshot_header.h"
#include "format/snapshot_index.h"
#include "testing/random.h"

namespace nori {
namespace {

using std::chrono::milliseconds;

constexpr std::uint32_t kSeed = 0x12345678;
constexpr std::uint64_t kOffset = 4711;
constexpr Sequence kEnd = 1000;

SnapshotHeader header() {
  SnapshotHeader header;
  header.log_id.bytes.fill(std::byte{0xab});
  header.sequence = kEnd;
  header.epoch = 0x0102030405060708;
  header.created_ms = 1'700'000'000'000;
  return header;
}

std::string encoded(const SnapshotHeader& header) {
  std::string bytes(kSnapshotHeaderBytes, '\0');
  encode_snapshot_header(header, reinterpret_cast<std::byte*>(bytes.data()));
  return bytes;
}

std::byte* bytes_of(std::string& text) { return reinterpret_cast<std::byte*>(text.data()); }

// --- Header and footer

TEST(SnapshotHeaderTest, IsReadAsWritten) {
  const auto bytes = encoded(header());
  const auto back = decode_snapshot_header(as_byte_view(bytes));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->log_id, header().log_id);
  EXPECT_EQ(back->sequence, header().sequence);
  EXPECT_EQ(back->epoch, header().epoch);
  EXPECT_EQ(back->created_ms, header().created_ms);
}

TEST(SnapshotHeaderTest, EveryFlippedBitIsNoticed) {
  const auto whole = encoded(header());
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    auto bytes = whole;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(decode_snapshot_header(as_byte_view(bytes))) << bit;
  }
}

TEST(SnapshotHeaderTest, OneOfANewerVersionIsNamed) {
  auto bytes = encoded(header());
  store_le(bytes_of(bytes) + 8, std::uint32_t{7});
  store_le(bytes_of(bytes) + 124,
           crc32c(place_seed(header().seed(), 0), as_byte_view(bytes).first(124)));
  const auto back = decode_snapshot_header(as_byte_view(bytes));
  ASSERT_FALSE(back);
  EXPECT_EQ(back.error().fault, HeaderFault::unsupported_version);
  EXPECT_EQ(back.error().version, 7U);
}

TEST(SnapshotHeaderTest, ASequenceBeyondAllIsBad) {
  auto beyond = header();
  beyond.sequence = kCountMax + 1;
  EXPECT_FALSE(decode_snapshot_header(as_byte_view(encoded(beyond))));
}

TEST(SnapshotHeaderTest, TheSeedIsOfLogAndSequence) {
  auto other = header();
  other.sequence += 1;
  EXPECT_NE(other.seed(), header().seed());
  other = header();
  other.log_id.bytes[3] = std::byte{1};
  EXPECT_NE(other.seed(), header().seed());
}

SnapshotFooter footer() {
  return {.index_offset = 1000, .index_bytes = 50, .blocks = 3, .entries = 7, .plain_bytes = 900};
}

std::optional<SnapshotFooter> written_and_read(const SnapshotFooter& footer) {
  std::array<std::byte, kSnapshotFooterBytes> bytes;
  encode_snapshot_footer(footer, kSeed, bytes.data());
  return decode_snapshot_footer(bytes, kSeed, footer.index_offset + footer.index_bytes);
}

TEST(SnapshotFooterTest, IsReadAsWrittenAndAtItsPlaceOnly) {
  EXPECT_EQ(written_and_read(footer()), footer());
  std::array<std::byte, kSnapshotFooterBytes> bytes;
  encode_snapshot_footer(footer(), kSeed, bytes.data());
  EXPECT_FALSE(decode_snapshot_footer(bytes, kSeed, 1051));
  EXPECT_FALSE(decode_snapshot_footer(bytes, kSeed + 1, 1050));
  EXPECT_FALSE(decode_snapshot_footer(ByteView(bytes).first(63), kSeed, 1050));
}

TEST(SnapshotFooterTest, WhatCannotBeIsNotBelieved) {
  const auto with = [](auto change) {
    auto changed = footer();
    change(changed);
    return written_and_read(changed);
  };
  EXPECT_FALSE(with([](auto& footer) { footer.index_offset = 127; }));
  EXPECT_FALSE(with([](auto& footer) { footer.index_bytes = 3; }));
  EXPECT_FALSE(with([](auto& footer) { footer.blocks = 900; })) << "more than there is room for";
  EXPECT_FALSE(with([](auto& footer) { footer.blocks = 8; })) << "more than entries";
  EXPECT_FALSE(with([](auto& footer) { footer.blocks = 0; }));
  EXPECT_FALSE(with([](auto& footer) { footer.entries = kCountMax + 1; }));
  EXPECT_FALSE(with([](auto& footer) { footer.plain_bytes = kCountMax + 1; }));
}

// Its checksum says that it stands at `offset`, whatever it says itself.
std::optional<SnapshotFooter> read_at(std::uint64_t offset) {
  std::array<std::byte, kSnapshotFooterBytes> bytes;
  encode_snapshot_footer(footer(), kSeed, bytes.data());
  store_le(&bytes[60], crc32c(place_seed(kSeed, offset), ByteView(bytes).first(60)));
  return decode_snapshot_footer(bytes, kSeed, offset);
}

TEST(SnapshotFooterTest, TheIndexEndsWhereItBegins) {
  EXPECT_EQ(read_at(1050), footer());
  EXPECT_FALSE(read_at(1049));
  EXPECT_FALSE(read_at(1051));
  EXPECT_FALSE(read_at(999)) << "in front of the index";
}

// --- Index

TEST(SnapshotIndexTest, ASeparatorIsAsShortAsItCanBe) {
  EXPECT_EQ(separator_of("apple", "banana"), "b");
  EXPECT_EQ(separator_of("apple", "apply"), "apply");
  EXPECT_EQ(separator_of("app", "apple"), "appl");
  EXPECT_EQ(separator_of("", "apple"), "a");
}

struct IndexFile {
  std::string bytes;
  SnapshotFooter footer;
};

IndexFile index_of(const std::vector<std::pair<std::uint64_t, std::string>>& blocks) {
  SnapshotIndexBuilder builder;
  IndexFile file;
  file.footer.index_offset = kSnapshotHeaderBytes;
  for (const auto& [bytes, separator] : blocks) {
    builder.add(bytes, separator);
    file.footer.index_offset += bytes;
  }
  file.footer.blocks = builder.blocks();
  file.bytes = std::move(builder).finish(kSeed, file.footer.index_offset);
  file.footer.index_bytes = file.bytes.size();
  return file;
}

std::optional<SnapshotIndex> decoded(const IndexFile& file) {
  const auto bytes = as_byte_view(file.bytes);
  return SnapshotIndex::decode({bytes.begin(), bytes.end()}, file.footer, kSeed);
}

TEST(SnapshotIndexTest, FindsTheBlockOfAKey) {
  const auto index = decoded(index_of({{100, ""}, {200, "b"}, {300, "cc"}}));
  ASSERT_TRUE(index);
  ASSERT_EQ(index->blocks(), 3U);
  EXPECT_EQ(index->block(0).offset, kSnapshotHeaderBytes);
  EXPECT_EQ(index->block(1).offset, kSnapshotHeaderBytes + 100);
  EXPECT_EQ(index->block(2).bytes, 300U);
  EXPECT_EQ(index->separator(2), "cc");
  EXPECT_EQ(index->block_of(""), 0U);
  EXPECT_EQ(index->block_of("azz"), 0U);
  EXPECT_EQ(index->block_of("b"), 1U);
  EXPECT_EQ(index->block_of("cb"), 1U);
  EXPECT_EQ(index->block_of("cc"), 2U);
  EXPECT_EQ(index->block_of("zz"), 2U);
}

TEST(SnapshotIndexTest, EveryFlippedByteIsNoticed) {
  const auto whole = index_of({{100, ""}, {200, "b"}});
  ASSERT_TRUE(decoded(whole));
  for (std::size_t i = 0; i < whole.bytes.size(); ++i) {
    auto file = whole;
    file.bytes[i] = static_cast<char>(file.bytes[i] ^ 0x40);
    EXPECT_FALSE(decoded(file)) << i;
  }
}

TEST(SnapshotIndexTest, WhatContradictsItselfIsNotBelieved) {
  EXPECT_FALSE(decoded(index_of({{100, "a"}, {200, "b"}}))) << "the first is above something";
  EXPECT_FALSE(decoded(index_of({{100, ""}, {200, "b"}, {200, "b"}})));
  EXPECT_FALSE(decoded(index_of({{100, ""}, {200, ""}})));
  EXPECT_FALSE(decoded(index_of({{100, ""}, {24, "b"}}))) << "no block is so small";
  auto file = index_of({{100, ""}, {200, "b"}});
  file.footer.blocks = 1;
  EXPECT_FALSE(decoded(file));
  file.footer.blocks = 3;
  EXPECT_FALSE(decoded(file));
  // An index that says so of itself, where the blocks end elsewhere.
  auto longer = index_of({{100, ""}, {200, "b"}});
  longer.footer.index_offset += 1;
  SnapshotIndexBuilder same;
  same.add(100, "");
  same.add(200, "b");
  longer.bytes = std::move(same).finish(kSeed, longer.footer.index_offset);
  EXPECT_FALSE(decoded(longer));
}

TEST(SnapshotIndexTest, OneCutShortIsNone) {
  const auto whole = index_of({{100, ""}, {200, "b"}});
  for (std::size_t bytes = 0; bytes < whole.bytes.size(); ++bytes) {
    auto file = whole;
    file.bytes.resize(bytes);
    EXPECT_FALSE(decoded(file)) << bytes;
    file.footer.index_bytes = bytes;
    if (bytes >= kSnapshotIndexBytesMin) {
      store_le(bytes_of(file.bytes), crc32c(place_seed(kSeed, file.footer.index_offset),
                                            as_byte_view(file.bytes).subspan(4)));
    }
    EXPECT_FALSE(decoded(file)) << bytes << ", and says so";
  }
}

TEST(SnapshotIndexTest, ABlockBehindItsPlaceIsNone) {
  auto file = index_of({{100, ""}, {200, "b"}});
  SnapshotIndexBuilder larger;
  larger.add(100, "");
  larger.add(201, "b");
  file.bytes = std::move(larger).finish(kSeed, file.footer.index_offset);
  EXPECT_FALSE(decoded(file));
}

// --- Blocks

SnapshotEntry entry(std::string_view key, std::string_view value, Sequence sequence = 5,
                    std::uint64_t epoch = 9) {
  return {.key = key,
          .value = value,
          .epoch = Epoch{epoch},
          .sequence = sequence,
          .expires_at = std::nullopt};
}

std::string block_of(const std::vector<SnapshotEntry>& entries, Compression compression) {
  SnapshotBlockBuilder builder;
  for (const auto& added : entries) {
    builder.add(added);
  }
  std::string block;
  builder.finish(compression, kSeed, kOffset, block);
  return block;
}

// What a block's bytes decode to, as text; or what is wrong with them.
std::string read(std::string_view block, Sequence end_sequence = kEnd) {
  SnapshotBlock opened;
  if (!opened.open(as_byte_view(block), kSeed, kOffset, end_sequence)) {
    return "not a block";
  }
  std::string text;
  while (true) {
    SnapshotEntry found;
    switch (opened.next(found)) {
      case SnapshotBlock::Step::end:
        return text;
      case SnapshotBlock::Step::malformed:
        return text + "malformed";
      case SnapshotBlock::Step::entry:
        text.append(found.key).append("=").append(found.value);
        text += "@" + std::to_string(found.epoch.bits) + "/" + std::to_string(found.sequence) + " ";
    }
  }
}

class SnapshotBlockTest : public ::testing::TestWithParam<Compression> {};

TEST_P(SnapshotBlockTest, IsReadAsWritten) {
  const std::string large(5000, 'x');
  const auto block = block_of({entry("", ""), entry("a", "1", 999, 9), entry("b", large, 0, 10),
                               entry("c", "3", 17, 10), entry("d", "", 18, 9)},
                              GetParam());
  EXPECT_EQ(read(block), "=@9/5 a=1@9/999 b=" + large + "@10/0 c=3@10/17 d=@9/18 ");
  EXPECT_EQ(block.size() < 5000, GetParam() != Compression::none);
}

INSTANTIATE_TEST_SUITE_P(Every, SnapshotBlockTest,
                         ::testing::Values(Compression::none, Compression::lz4, Compression::zstd),
                         [](const auto& test) {
                           return test.param == Compression::none  ? "None"
                                  : test.param == Compression::lz4 ? "Lz4"
                                                                   : "Zstd";
                         });

TEST(SnapshotBlockTest, ExpiryIsKeptToTheMillisecond) {
  for (const std::int64_t ms :
       {std::int64_t{0}, std::int64_t{-1}, std::int64_t{1'767'225'600'123}}) {
    auto expiring = entry("k", "v");
    expiring.expires_at = TimePoint(milliseconds(ms)) + std::chrono::microseconds(1);
    const auto bytes = block_of({expiring, entry("l", "w")}, Compression::lz4);
    SnapshotBlock block;
    ASSERT_TRUE(block.open(as_byte_view(bytes), kSeed, kOffset, kEnd));
    SnapshotEntry found;
    ASSERT_EQ(block.next(found), SnapshotBlock::Step::entry);
    EXPECT_EQ(found.expires_at, TimePoint(milliseconds(ms)));
    ASSERT_EQ(block.next(found), SnapshotBlock::Step::entry);
    EXPECT_EQ(found.expires_at, std::nullopt);
  }
}

TEST(SnapshotBlockTest, WhatDoesNotShrinkIsStoredPlain) {
  testing::Random random(1);
  std::string noise(10'000, '\0');
  for (auto& c : noise) {
    c = static_cast<char>(random.next());
  }
  for (const auto compression : {Compression::lz4, Compression::zstd}) {
    const auto block = block_of({entry("k", noise)}, compression);
    EXPECT_EQ(load_le<std::uint32_t>(as_byte_view(block).data() + 4), 0U);
    EXPECT_LT(block.size(), noise.size() + 64);
  }
}

TEST(SnapshotBlockTest, BehindWhatDoesNotShrinkTheNextFewAreNotTried) {
  testing::Random random(1);
  std::string noise(1000, '\0');
  for (auto& c : noise) {
    c = static_cast<char>(random.next());
  }
  const std::string text(1000, 'x');
  SnapshotBlockBuilder builder;
  std::string compressed;
  for (int i = 0; i < 20; ++i) {
    builder.add(entry("k", i == 1 ? noise : text));
    std::string block;
    builder.finish(Compression::lz4, kSeed, kOffset, block);
    EXPECT_NE(read(block), "not a block");
    compressed += load_le<std::uint32_t>(as_byte_view(block).data() + 4) != 0 ? 'c' : '.';
  }
  EXPECT_EQ(compressed, "c........ccccccccccc");
}

TEST(SnapshotBlockTest, EveryFlippedByteAndEveryCutIsNoticed) {
  for (const auto compression : {Compression::none, Compression::lz4, Compression::zstd}) {
    const auto whole =
        block_of({entry("key", std::string(200, 'v')), entry("other", "w")}, compression);
    ASSERT_NE(read(whole), "not a block");
    for (std::size_t i = 0; i < whole.size(); ++i) {
      auto block = whole;
      block[i] = static_cast<char>(block[i] ^ 0x10);
      EXPECT_EQ(read(block), "not a block") << i;
      EXPECT_EQ(read(whole.substr(0, i)), "not a block") << i;
    }
  }
}

TEST(SnapshotBlockTest, IsBoundToItsPlace) {
  const auto bytes = block_of({entry("k", "v")}, Compression::lz4);
  SnapshotBlock block;
  EXPECT_TRUE(block.open(as_byte_view(bytes), kSeed, kOffset, kEnd));
  EXPECT_FALSE(block.open(as_byte_view(bytes), kSeed, kOffset + 1, kEnd));
  EXPECT_FALSE(block.open(as_byte_view(bytes), kSeed + 1, kOffset, kEnd));
  SnapshotEntry found;
  EXPECT_EQ(block.next(found), SnapshotBlock::Step::end) << "nothing of what failed is left";
}

// A block of these bytes, its checksum as it should be.
std::string forged(std::string_view plain, std::uint64_t entries,
                   std::optional<std::uint64_t> plain_bytes = std::nullopt,
                   std::uint32_t compression = 0) {
  std::string block(kSnapshotBlockHeaderBytes, '\0');
  store_le(bytes_of(block) + 4, compression);
  store_le(bytes_of(block) + 8, entries);
  store_le(bytes_of(block) + 16, plain_bytes.value_or(plain.size()));
  block += plain;
  store_le(bytes_of(block), crc32c(place_seed(kSeed, kOffset), as_byte_view(block).subspan(4)));
  return block;
}

using namespace std::string_view_literals;
constexpr auto kEpochBytes = "\x09\0\0\0\0\0\0\0"sv;

// flags, key_bytes, value_bytes, sequence; epoch if the flags have it; key and value.
std::string plain_entry(std::uint8_t flags, std::string_view key, std::string_view value = "") {
  std::string bytes{static_cast<char>(flags), static_cast<char>(key.size()),
                    static_cast<char>(value.size()), 5};
  if ((flags & 2) != 0) {
    bytes += kEpochBytes;
  }
  return bytes.append(key).append(value);
}

TEST(SnapshotBlockTest, WhatOnlyAForgerWritesIsMalformed) {
  ASSERT_EQ(read(forged(plain_entry(2, "a", "1") + plain_entry(0, "b", "2"), 2)),
            "a=1@9/5 b=2@9/5 ");

  EXPECT_EQ(read(forged(plain_entry(2, "a"), 0)), "not a block");
  EXPECT_EQ(read(forged(plain_entry(2, "a"), 1, 14)), "not a block");
  EXPECT_EQ(read(forged(plain_entry(2, "a"), 1, std::nullopt, 3)), "not a block");
  EXPECT_EQ(read(forged(plain_entry(2, "a"), 1, std::uint64_t{1} << 60, 1)), "not a block");
  EXPECT_EQ(read(forged(plain_entry(2, "a"), 1, std::uint64_t{1} << 60, 2)), "not a block");

  EXPECT_EQ(read(forged(plain_entry(2, "a"), 2)), "a=@9/5 malformed") << "one entry too few";
  EXPECT_EQ(read(forged(plain_entry(2, "a") + "x", 1)), "a=@9/5 malformed") << "bytes left over";
  EXPECT_EQ(read(forged(plain_entry(0, "a"), 1)), "malformed") << "no epoch";
  EXPECT_EQ(read(forged(plain_entry(6, "a"), 1)), "malformed") << "an unknown flag";
  EXPECT_EQ(read(forged(plain_entry(2, "b") + plain_entry(0, "b"), 2)), "b=@9/5 malformed");
  EXPECT_EQ(read(forged(plain_entry(2, "b") + plain_entry(0, "a"), 2)), "b=@9/5 malformed");
  EXPECT_EQ(read(forged(plain_entry(2, "a"), 1), 5), "malformed") << "of a later record";
  const auto whole = plain_entry(3, "a", "value") + std::string(8, '\0');
  for (std::size_t bytes = 1; bytes < whole.size(); ++bytes) {
    EXPECT_EQ(read(forged(whole.substr(0, bytes), 1)), "malformed") << bytes;
  }
  // Lengths whose sum wraps.
  std::string huge(3, '\0');
  huge[0] = 2;
  huge.resize(1 + 2 * kVarintBytesMax);
  auto* end = store_varint(bytes_of(huge) + 1, 2);
  end = store_varint(end, std::numeric_limits<std::uint64_t>::max());
  huge.resize(static_cast<std::size_t>(end - bytes_of(huge)));
  EXPECT_EQ(read(forged(huge.append("\x05").append(kEpochBytes).append("ab"), 1)), "malformed");
}

}  // namespace
}  // namespace nori
