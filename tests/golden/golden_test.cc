// Goal: a log written by any released version is read by every later one.
// Method: each structure of format version 1, with a value that is not zero in every field and
// every byte of it, is compared with the bytes in v1/, both ways.
//
// Going red is right in one case only: the format is being changed on purpose before its version
// was released. Then the failure's text is the new file. Once released, v1/ never changes: a new
// version gets a folder of its own beside it, and the tests of this one keep reading (and, as long
// as the library can write it, writing) version 1.

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/cursor.h"
#include "format/frame.h"
#include "format/record.h"
#include "format/ring_header.h"
#include "format/segment_footer.h"
#include "format/segment_header.h"
#include "format/snapshot_block.h"
#include "format/snapshot_header.h"
#include "format/snapshot_index.h"
#include "tests/golden/hex_text.h"

namespace nori::golden {
namespace {

constexpr std::uint64_t kSegmentId = 0x1112131415161718;
constexpr std::uint64_t kOffset = 0x2122232425262728;
constexpr Sequence kSequence = 0x3132333435363738;
constexpr Sequence kMark = kSequence - 0x41424344;
constexpr std::uint64_t kEpoch = 0x5152535455565758;
constexpr std::uint64_t kTimeMs = 0x616263646566;
constexpr std::uint64_t kBlockBytes = 256;  // small, to keep the files so

LogId log_id() {
  LogId id;
  for (std::size_t i = 0; i < id.bytes.size(); ++i) {
    id.bytes[i] = static_cast<std::byte>(0xa0 + i);
  }
  return id;
}

std::uint32_t seed_of_segment() { return segment_seed(log_id(), 0, kSegmentId); }
std::uint32_t seed_of_place() { return place_seed(seed_of_segment(), kOffset); }

std::byte* bytes_of(std::string& text) { return reinterpret_cast<std::byte*>(text.data()); }

std::string golden(std::string_view name) {
  const auto text = read_source_file("tests/golden/v1/" + std::string(name) + ".hex");
  const auto bytes = from_hex_text(text);
  EXPECT_TRUE(bytes) << name << " is not what hex_text.h describes";
  return bytes.value_or("");
}

void expect_golden(std::string_view name, std::string_view bytes) {
  EXPECT_TRUE(golden(name) == bytes) << name << " is now\n" << to_hex_text(bytes);
}

/// The frame's bytes, at the place that all golden frames stand at.
std::string frame(FrameKind kind, std::uint32_t record_count, std::string_view payload) {
  FrameHeader header;
  header.kind = kind;
  header.record_count = record_count;
  header.payload_bytes = payload.size();
  header.payload_crc32c = crc32c(0, as_byte_view(payload));
  header.first_sequence = kSequence;
  header.epoch = kEpoch;
  header.time_ms = kTimeMs;
  header.durable_mark = kMark;
  std::string bytes(kFrameHeaderBytes, '\0');
  encode_frame_header(header, seed_of_place(), bytes_of(bytes));
  return bytes.append(payload);
}

/// The payload of a golden frame, its header compared.
std::string payload_of(std::string_view name, FrameKind kind, std::uint32_t record_count) {
  const auto bytes = golden(name);
  const auto header = decode_frame_header(as_byte_view(bytes), seed_of_place());
  EXPECT_TRUE(header) << name;
  if (!header) {
    return {};
  }
  EXPECT_EQ(header->kind, kind);
  EXPECT_EQ(header->record_count, record_count);
  EXPECT_EQ(header->frame_bytes(), bytes.size());
  EXPECT_EQ(header->first_sequence, kSequence);
  EXPECT_EQ(header->epoch, kEpoch);
  EXPECT_EQ(header->time_ms, kTimeMs);
  EXPECT_EQ(header->durable_mark, kMark);
  const auto payload = bytes.substr(kFrameHeaderBytes);
  EXPECT_TRUE(payload_matches(*header, as_byte_view(payload)));
  return payload;
}

SegmentHeader segment_header() {
  SegmentHeader header;
  header.log_id = log_id();
  header.first_segment = header.last_segment = kSegmentId;
  header.first_sequence = kSequence;
  header.epoch = kEpoch;
  header.durable_mark = kMark;
  header.created_ms = kTimeMs;
  header.first_offset = 0x87654;
  header.ring_base = 0x7172737475767778;
  return header;
}

std::vector<Record> records() {
  static const std::string long_value(130, 'v');  // a length of two bytes
  const TimePoint expiry{std::chrono::milliseconds{-0x010203040506}};
  return {Record::put("key", "value"), Record::put("until", "then", expiry),
          Record::remove("gone"),      Record::put("", "no key"),
          Record::put("no value", ""), Record::put("long", long_value)};
}

SegmentSummary summary() {
  return {
      .frames = 0x8182838485868788,
      .records = 0x9192939495969798,
      .padding_bytes = 0xa1a2a3a4a5a6a7a8,
      .first_sequence = kSequence,
      .end_sequence = kSequence + 0x0102030405060708,
      .first_time_ms = 0xb1b2b3b4b5b6,
      .last_time_ms = 0xc1c2c3c4c5c6,
      .epoch = kEpoch,
      .durable_mark = kMark,
      .end_offset = kOffset,
      .index = {
          {.sequence = 0xd1d2d3d4d5d6d7d8, .offset = 0x0102030405060708, .time_ms = 0xe1e2e3e4e5e6},
          {.sequence = 0xf1f2f3f4f5f6f7f8,
           .offset = 0x0112131415161718,
           .time_ms = 0x010203040506}}};
}

TEST(GoldenTest, SegmentHeader) {
  std::string bytes(kSegmentHeaderBytes, '\0');
  encode_segment_header(segment_header(), bytes_of(bytes));
  expect_golden("segment_header", bytes);

  const auto back = decode_segment_header(as_byte_view(golden("segment_header")));
  ASSERT_TRUE(back);
  const auto expected = segment_header();
  EXPECT_EQ(back->generation, expected.generation);
  EXPECT_EQ(back->log_id, expected.log_id);
  EXPECT_EQ(back->first_segment, expected.first_segment);
  EXPECT_EQ(back->last_segment, expected.last_segment);
  EXPECT_EQ(back->first_sequence, expected.first_sequence);
  EXPECT_EQ(back->epoch, expected.epoch);
  EXPECT_EQ(back->durable_mark, expected.durable_mark);
  EXPECT_EQ(back->created_ms, expected.created_ms);
  EXPECT_EQ(back->first_offset, expected.first_offset);
  EXPECT_EQ(back->ring_base, expected.ring_base);
}

TEST(GoldenTest, RecordsFrame) {
  Batch batch;
  for (const auto& record : records()) {
    batch.add(record);
  }
  expect_golden("records_frame", frame(FrameKind::records, 6, batch.encoded()));

  const auto payload = payload_of("records_frame", FrameKind::records, 6);
  auto left = as_byte_view(payload);
  for (const auto& expected : records()) {
    const auto stored = decode_record(left);
    ASSERT_TRUE(stored);
    const auto* const record = &stored->record;
    EXPECT_EQ(record->op, expected.op);
    EXPECT_EQ(record->key, expected.key);
    EXPECT_EQ(record->value, expected.value);
    EXPECT_EQ(record->expires_at, expected.expires_at);
  }
  EXPECT_TRUE(left.empty());
}

TEST(GoldenTest, PaddingFrame) {
  const std::string zeros(50, '\0');
  expect_golden("padding_frame", frame(FrameKind::padding, 0, zeros));
  EXPECT_EQ(payload_of("padding_frame", FrameKind::padding, 0), zeros);
}

TEST(GoldenTest, OpeningFrame) {
  constexpr std::uint64_t kPreviousEpoch = 0x4142434445464748;
  std::string bytes(50, '\0');
  encode_opening({.previous_epoch = kPreviousEpoch}, bytes_of(bytes));
  expect_golden("opening_frame", frame(FrameKind::opening, 0, bytes));

  const auto payload = payload_of("opening_frame", FrameKind::opening, 0);
  const auto opening = decode_opening(as_byte_view(payload));
  ASSERT_TRUE(opening);
  EXPECT_EQ(opening->previous_epoch, kPreviousEpoch);
}

TEST(GoldenTest, RotationFrame) {
  const RotationPayload rotation{.next_segment_id = kSegmentId + 1,
                                 .next_offset = 0x87654,
                                 .next_ring_base = 0x7172737475767778};
  std::string bytes(50, '\0');
  encode_rotation(rotation, bytes_of(bytes));
  expect_golden("rotation_frame", frame(FrameKind::rotation, 0, bytes));

  const auto payload = payload_of("rotation_frame", FrameKind::rotation, 0);
  const auto back = decode_rotation(as_byte_view(payload));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->next_segment_id, rotation.next_segment_id);
  EXPECT_EQ(back->next_offset, rotation.next_offset);
  EXPECT_EQ(back->next_ring_base, rotation.next_ring_base);
}

TEST(GoldenTest, CloseFrame) {
  auto bytes = encode_summary(summary());
  bytes.resize(kBlockBytes - kFrameHeaderBytes, '\0');
  expect_golden("close_frame", frame(FrameKind::close, 0, bytes));

  const auto payload = payload_of("close_frame", FrameKind::close, 0);
  EXPECT_EQ(decode_summary(as_byte_view(payload)), summary());
}

TEST(GoldenTest, Footer) {
  expect_golden("footer", encode_footer(summary(), seed_of_segment(), kBlockBytes));

  const auto footer = golden("footer");
  const auto bytes = as_byte_view(footer);
  ASSERT_GE(bytes.size(), kFooterTrailerBytes);
  EXPECT_EQ(decode_footer_bytes(bytes.last(kFooterTrailerBytes)), footer.size());
  EXPECT_EQ(decode_footer(bytes, seed_of_segment(), kOffset), summary());
}

TEST(GoldenTest, RingHeader) {
  constexpr std::uint64_t kRingBytes = std::uint64_t{1} << 30;
  std::string bytes(kRingDataOffset, '\0');
  encode_ring_header({.log_id = log_id(), .ring_bytes = kRingBytes}, bytes_of(bytes));
  const ByteSpan ring(bytes_of(bytes), bytes.size());
  encode_ring_mark({.durable_mark = kMark, .segment_id = kSegmentId}, log_id(), 0, ring);
  encode_ring_mark({.durable_mark = kSequence, .segment_id = kSegmentId + 1}, log_id(), 1, ring);
  expect_golden("ring_header", bytes);

  const auto golden_bytes = golden("ring_header");
  const auto header = decode_ring_header(as_byte_view(golden_bytes));
  ASSERT_TRUE(header);
  EXPECT_EQ(header->log_id, log_id());
  EXPECT_EQ(header->ring_bytes, kRingBytes);
  const auto mark = decode_ring_mark(as_byte_view(golden_bytes), log_id());
  ASSERT_TRUE(mark);
  EXPECT_EQ(mark->durable_mark, kSequence);
  EXPECT_EQ(mark->segment_id, kSegmentId + 1);
}

// Two blocks, as they are before compression: what compresses them may come to do so better.
TEST(GoldenTest, Snapshot) {
  const SnapshotHeader header{
      .log_id = log_id(), .sequence = kSequence, .epoch = kEpoch, .created_ms = kTimeMs};
  const SnapshotEntry first{.key = "apple",
                            .value = "red",
                            .epoch = Epoch{kEpoch},
                            .sequence = 0x1112131415161718,
                            .expires_at = TimePoint{std::chrono::milliseconds{0x71727374757}}};
  const SnapshotEntry second{
      .key = "banana", .value = "yellow", .epoch = Epoch{kEpoch - 1}, .sequence = 0x2122};

  std::string file(kSnapshotHeaderBytes, '\0');
  encode_snapshot_header(header, bytes_of(file));
  SnapshotFooter footer{.entries = 2};
  SnapshotIndexBuilder index_builder;
  std::string_view separator;
  for (const auto& entry : {first, second}) {
    SnapshotBlockBuilder block;
    block.add(entry);
    footer.plain_bytes += block.plain_bytes();
    const auto begin = file.size();
    block.finish(Compression::none, header.seed(), begin, file);
    index_builder.add(file.size() - begin, separator);
    separator = "b";
  }
  footer.blocks = index_builder.blocks();
  footer.index_offset = file.size();
  file += std::move(index_builder).finish(header.seed(), footer.index_offset);
  footer.index_bytes = file.size() - footer.index_offset;
  file.resize(file.size() + kSnapshotFooterBytes);
  encode_snapshot_footer(footer, header.seed(),
                         bytes_of(file) + file.size() - kSnapshotFooterBytes);
  expect_golden("snapshot", file);

  const auto read = golden("snapshot");
  const auto bytes = as_byte_view(read);
  const auto header_read = decode_snapshot_header(bytes);
  ASSERT_TRUE(header_read);
  EXPECT_EQ(header_read->log_id, log_id());
  EXPECT_EQ(header_read->sequence, kSequence);
  EXPECT_EQ(header_read->epoch, kEpoch);
  EXPECT_EQ(header_read->created_ms, kTimeMs);
  const auto seed = header_read->seed();
  const auto footer_offset = bytes.size() - kSnapshotFooterBytes;
  EXPECT_EQ(decode_snapshot_footer(bytes.last(kSnapshotFooterBytes), seed, footer_offset), footer);
  const auto index_bytes = bytes.subspan(footer.index_offset, footer.index_bytes);
  const auto index = SnapshotIndex::decode({index_bytes.begin(), index_bytes.end()}, footer, seed);
  ASSERT_TRUE(index);
  EXPECT_EQ(index->separator(1), "b");
  for (const auto& [i, expected] : {std::pair<std::size_t, const SnapshotEntry&>(0, first),
                                    std::pair<std::size_t, const SnapshotEntry&>(1, second)}) {
    const auto place = index->block(i);
    SnapshotBlock block;
    ASSERT_TRUE(
        block.open(bytes.subspan(place.offset, place.bytes), seed, place.offset, kSequence));
    SnapshotEntry entry;
    ASSERT_EQ(block.next(entry), SnapshotBlock::Step::entry);
    EXPECT_EQ(entry.key, expected.key);
    EXPECT_EQ(entry.value, expected.value);
    EXPECT_EQ(entry.epoch, expected.epoch);
    EXPECT_EQ(entry.sequence, expected.sequence);
    EXPECT_EQ(entry.expires_at, expected.expires_at);
    EXPECT_EQ(block.next(entry), SnapshotBlock::Step::end);
  }
}

TEST(GoldenTest, Cursor) {
  const CursorValue expected{
      .log_id = log_id(),
      .position = {.segment_id = kSegmentId, .offset = kOffset, .sequence = kSequence},
      .created_ms = kTimeMs,
      .committed_ms = kTimeMs + 0x1234,
      .lag_bytes_max = 0x8182838485868788};
  std::string bytes(kCursorBytes, '\0');
  encode_cursor(expected, bytes_of(bytes));
  expect_golden("cursor", bytes);

  const auto back = decode_cursor(as_byte_view(golden("cursor")));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->log_id, expected.log_id);
  EXPECT_EQ(back->position.segment_id, expected.position.segment_id);
  EXPECT_EQ(back->position.offset, expected.position.offset);
  EXPECT_EQ(back->position.sequence, expected.position.sequence);
  EXPECT_EQ(back->created_ms, expected.created_ms);
  EXPECT_EQ(back->committed_ms, expected.committed_ms);
  EXPECT_EQ(back->lag_bytes_max, expected.lag_bytes_max);
}

}  // namespace
}  // namespace nori::golden
