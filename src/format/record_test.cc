#include "format/record.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/little_endian.h"

namespace nori {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();

TimePoint at_ms(std::int64_t ms) { return TimePoint{milliseconds{ms}}; }

std::string encoded(const Record& record) {
  Batch batch;
  batch.add(record);
  return std::string(batch.encoded());
}

/// A record's head, written by hand.
std::string head(int flags, std::uint64_t key_bytes, std::optional<std::uint64_t> value_bytes) {
  std::string text(1, static_cast<char>(flags));
  std::byte varint[kVarintBytesMax];
  text += as_text({varint, store_varint(varint, key_bytes)});
  if (value_bytes) {
    text += as_text({varint, store_varint(varint, *value_bytes)});
  }
  return text;
}

/// The only record of a payload. What it points to lives as long as `payload`.
std::optional<StoredRecord> decoded(const std::string& payload) {
  auto bytes = as_byte_view(payload);
  auto record = decode_record(bytes);
  if (!record) {
    EXPECT_EQ(bytes.size(), payload.size()) << "a refused record was taken off";
    return std::nullopt;
  }
  return bytes.empty() ? record : std::nullopt;
}

void expect_comes_back(const Record& record) {
  const auto payload = encoded(record);
  const auto back = decoded(payload);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->record.op, record.op);
  EXPECT_EQ(back->record.key, record.key);
  EXPECT_EQ(back->record.value, record.value);
  EXPECT_EQ(back->record.expires_at, record.expires_at);
  EXPECT_EQ(back->compression, Compression::none);
}

std::string compressed_record(Compression compression, std::string_view value,
                              std::uint64_t plain_bytes) {
  std::string encoded;
  append_record(encoded, Record::put("key", value), compression, plain_bytes);
  return encoded;
}

/// One of each shape; the long ones have lengths of more than a byte.
std::vector<std::string> one_of_each() {
  static const std::string long_text(200, 'x');
  return {encoded(Record::put("key", "value")),
          encoded(Record::put("", "")),
          encoded(Record::put(long_text, "")),
          encoded(Record::put("", long_text)),
          encoded(Record::put("key", "value", at_ms(1234567890123))),
          encoded(Record::remove("key")),
          encoded(Record::remove("")),
          encoded(Record::remove(long_text))};
}

TEST(RecordTest, EveryShapeComesBack) {
  const std::string bytes("\0\xff\n", 3);
  const std::string long_text(70'000, 'v');
  expect_comes_back(Record::put("key", "value"));
  expect_comes_back(Record::put("", ""));
  expect_comes_back(Record::put("", bytes));
  expect_comes_back(Record::put(bytes, ""));
  expect_comes_back(Record::put(long_text, long_text));
  expect_comes_back(Record::put("key", "value", at_ms(1)));
  expect_comes_back(Record::put("key", "value", at_ms(0)));
  expect_comes_back(Record::put("key", "value", at_ms(-1)));
  expect_comes_back(Record::remove("key"));
  expect_comes_back(Record::remove(""));
}

TEST(RecordTest, ATombstoneHasNeitherValueNorExpiry) {
  Record record = Record::put("key", "value", at_ms(5));
  record.op = Operation::remove;
  EXPECT_EQ(encoded(record), encoded(Record::remove("key")));
}

TEST(RecordTest, ACompressedValueSaysHowLongItWas) {
  for (const auto compression : {Compression::lz4, Compression::zstd}) {
    const auto payload = compressed_record(compression, "short", 1000);
    const auto back = decoded(payload);
    ASSERT_TRUE(back);
    EXPECT_EQ(back->record.key, "key");
    EXPECT_EQ(back->record.value, "short");
    EXPECT_EQ(back->compression, compression);
    EXPECT_EQ(back->plain_bytes, 1000);
  }
}

// What says that it grew when it was compressed was not written by anybody; what says that it was
// enormous would cost its reader memory.
TEST(RecordTest, ACompressedValueWasLongerAndNotTooLong) {
  EXPECT_FALSE(decoded(compressed_record(Compression::lz4, "short", 5)));
  EXPECT_FALSE(decoded(compressed_record(Compression::lz4, "short", 4)));
  EXPECT_TRUE(decoded(compressed_record(Compression::lz4, "short", 6)));
  EXPECT_TRUE(decoded(compressed_record(Compression::lz4, "short", kCompressedValueBytesMax)));
  EXPECT_FALSE(decoded(compressed_record(Compression::lz4, "short", kCompressedValueBytesMax + 1)));
}

TEST(RecordTest, OnlyKnownCompressionsAndOnlyOfValues) {
  auto payload = compressed_record(Compression::lz4, "short", 1000);
  payload[0] = 3 << 3;
  EXPECT_FALSE(decoded(payload));
  auto tombstone = encoded(Record::remove("key"));
  tombstone[0] = static_cast<char>(tombstone[0] | 1 << 3);
  EXPECT_FALSE(decoded(tombstone));
}

TEST(RecordTest, RecordsOfABatchStandOneBehindTheOther) {
  Batch batch;
  batch.put("a", "1");
  batch.remove("b");
  batch.add(Record::put("", "", at_ms(3)));
  EXPECT_EQ(batch.record_count(), 3U);
  auto payload = as_byte_view(batch.encoded());
  EXPECT_EQ(decode_record(payload)->record.key, "a");
  EXPECT_EQ(decode_record(payload)->record.op, Operation::remove);
  EXPECT_EQ(decode_record(payload)->record.expires_at, at_ms(3));
  EXPECT_TRUE(payload.empty());
  EXPECT_FALSE(decode_record(payload));
}

TEST(RecordTest, AnEmptyBatchHasNoBytes) {
  Batch batch;
  EXPECT_TRUE(batch.empty());
  EXPECT_EQ(batch.encoded(), "");
  batch.put("a", "1");
  batch.clear();
  EXPECT_TRUE(batch.empty());
  EXPECT_EQ(batch.encoded(), "");
}

TEST(RecordTest, EveryTruncationIsNoticed) {
  for (const auto& whole : one_of_each()) {
    for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
      EXPECT_FALSE(decoded(whole.substr(0, bytes))) << bytes << " of " << whole.size();
    }
  }
  const auto compressed = compressed_record(Compression::lz4, std::string(200, 's'), 1000);
  for (std::size_t bytes = 0; bytes < compressed.size(); ++bytes) {
    EXPECT_FALSE(decoded(compressed.substr(0, bytes))) << bytes << " of " << compressed.size();
  }
}

TEST(RecordTest, FlagsThatAreNotDefinedAreRefused) {
  for (int flags = 0; flags < 256; ++flags) {
    const bool is_defined = flags == 0 || flags == 1 || flags == 4;
    // Long enough for any of them, so that it is the flags that are refused.
    const auto text = static_cast<char>(flags) + std::string(40, '\0');
    auto payload = as_byte_view(text);
    EXPECT_EQ(decode_record(payload).has_value(), is_defined) << flags;
  }
}

TEST(RecordTest, LengthsBeyondThePayloadAreRefused) {
  for (const auto bytes : {std::uint64_t{4}, std::uint64_t{1} << 32, kHuge - 3, kHuge}) {
    EXPECT_FALSE(decoded(head(0, bytes, 0) + "abc")) << bytes;
    EXPECT_FALSE(decoded(head(0, 0, bytes) + "abc")) << bytes;
    EXPECT_FALSE(decoded(head(1, bytes, {}) + "abc")) << bytes;
  }
  // Two lengths that only together are too long, or wrap around to what is there.
  EXPECT_FALSE(decoded(head(0, 2, 2) + "abc"));
  EXPECT_FALSE(decoded(head(0, kHuge, 4) + "abc"));
  EXPECT_FALSE(decoded(head(0, 4, kHuge) + "abc"));
}

TEST(RecordTest, LengthsInMoreBytesThanNeededAreRefused) {
  EXPECT_TRUE(decoded(std::string("\x00\x01\x00k", 4)));
  EXPECT_FALSE(decoded(std::string("\x00\x81\x00\x00k", 5)));
  EXPECT_FALSE(decoded(std::string("\x00\x01\x80\x00k", 5)));
}

TEST(RecordTest, AnExpiryIsKeptToTheMillisecondAndNeverLater) {
  const auto expiry_of = [](TimePoint time) {
    const auto payload = encoded(Record::put("k", "v", time));
    return decoded(payload)->record.expires_at;
  };
  const auto finer = [](std::int64_t ns) {
    return TimePoint{std::chrono::duration_cast<TimePoint::duration>(nanoseconds{ns})};
  };
  EXPECT_EQ(expiry_of(finer(1'999'999)), at_ms(1));
  EXPECT_EQ(expiry_of(finer(-1)), at_ms(-1));
  EXPECT_EQ(expiry_of(TimePoint::max()), time_point_of(std::numeric_limits<std::int64_t>::max()));
}

// Another machine's clock may count further than this one's.
TEST(RecordTest, AnExpiryBeyondTheClockIsItsEnd) {
  auto payload = encoded(Record::put("", "", at_ms(0)));
  const auto set_expiry = [&](std::int64_t ms) {
    store_le(reinterpret_cast<std::byte*>(&payload[3]), ms);
    return *decoded(payload)->record.expires_at;
  };
  EXPECT_LE(TimePoint::max() - set_expiry(std::numeric_limits<std::int64_t>::max()),
            milliseconds{1});
  EXPECT_LE(set_expiry(std::numeric_limits<std::int64_t>::min()) - TimePoint::min(),
            milliseconds{1});
}

}  // namespace
}  // namespace nori
