#include "format/frame_records.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/crc32c.h"

namespace nori {
namespace {

std::string encoded(const Record& record) {
  std::string bytes;
  append_record(bytes, record, Compression::none, 0);
  return bytes;
}

class CompactedFrameTest : public ::testing::Test {
 protected:
  void add(Sequence sequence, std::uint64_t time_ms, std::string_view key, bool ends_batch) {
    const auto bytes = encoded(Record::put(key, "value"));
    FrameRecord record;
    record.sequence = sequence;
    record.time_ms = time_ms;
    record.ends_batch = ends_batch;
    record.bytes = as_byte_view(bytes);
    frame_.add(record);
  }

  // Header and payload, for a frame that covers up to `end`.
  void finish(Sequence end) {
    header_ = frame_.header(end, 5);
    const auto [front, records] = frame_.payload();
    payload_ = std::string(as_text(front)) + std::string(as_text(records));
  }

  // What can be read, and whether that was all.
  std::vector<std::string> read() {
    FrameRecords records(header_, as_byte_view(payload_));
    std::vector<std::string> lines;
    while (const auto record = records.next()) {
      lines.push_back(std::to_string(record->sequence) + "@" + std::to_string(record->time_ms) +
                      " " + std::string(record->stored.record.key) +
                      (record->ends_batch ? "." : ""));
    }
    is_whole_ = records.is_done();
    return lines;
  }

  CompactedFrame frame_;
  FrameHeader header_;
  std::string payload_;
  bool is_whole_ = false;
};

TEST_F(CompactedFrameTest, RecordsComeBackWithTheirSequencesTimesAndBatchEnds) {
  frame_.begin(10, 7);
  add(12, 1000, "a", false);
  add(13, 1000, "b", true);
  add(99, 1500, "c", true);
  finish(120);
  EXPECT_EQ(header_.kind, FrameKind::compacted);
  EXPECT_EQ(header_.first_sequence, 10);
  EXPECT_EQ(header_.end_sequence(), 120);
  EXPECT_EQ(header_.epoch, 7);
  EXPECT_EQ(header_.time_ms, 1000);
  EXPECT_TRUE(payload_matches(header_, as_byte_view(payload_)));
  EXPECT_EQ(read(), (std::vector<std::string>{"12@1000 a", "13@1000 b.", "99@1500 c."}));
  EXPECT_TRUE(is_whole_);
}

TEST_F(CompactedFrameTest, AFrameMayHaveNoRecordLeft) {
  frame_.begin(10, 7);
  finish(11);
  EXPECT_EQ(header_.time_ms, 5);
  EXPECT_EQ(FrameRecords(header_, as_byte_view(payload_)).count(), 0);
  EXPECT_TRUE(read().empty());
  EXPECT_TRUE(is_whole_);
}

TEST_F(CompactedFrameTest, ABatchWhoseEndIsGoneEndsWithWhatIsLeft) {
  frame_.begin(1, 7);
  frame_.end_batch();  // nothing is there to end
  add(1, 9, "a", true);
  add(2, 9, "b", false);
  frame_.end_batch();
  finish(5);
  EXPECT_EQ(read(), (std::vector<std::string>{"1@9 a.", "2@9 b."}));
}

TEST_F(CompactedFrameTest, TakesRecordsOfItsEpochWithinItsReach) {
  frame_.begin(10, 7);
  EXPECT_TRUE(frame_.takes(10 + kRecordsPerFrameMax - 1, 7));
  EXPECT_FALSE(frame_.takes(10 + kRecordsPerFrameMax, 7));
  EXPECT_FALSE(frame_.takes(10, 8));
}

TEST_F(CompactedFrameTest, ASequenceBehindTheRangeIsMalformed) {
  frame_.begin(10, 7);
  add(12, 1000, "a", true);
  finish(12);
  EXPECT_TRUE(read().empty());
  EXPECT_FALSE(is_whole_);
}

TEST_F(CompactedFrameTest, ATimeBeyondAllIsMalformed) {
  frame_.begin(10, 7);
  add(12, 1000, "a", true);
  add(13, kFrameTimeMsMax, "b", true);
  finish(20);
  EXPECT_EQ(read().size(), 2);
  EXPECT_TRUE(is_whole_);
  header_.time_ms += 1;
  EXPECT_EQ(read(), (std::vector<std::string>{"12@1001 a."}));
  EXPECT_FALSE(is_whole_);
}

// Goal: nothing is made up. Method: cut at every length, and change every byte to every value.
TEST_F(CompactedFrameTest, WhatIsMalformedIsNotWhole) {
  frame_.begin(10, 7);
  add(12, 1000, "a", false);
  add(13, 1000, "b", true);
  finish(20);
  const auto whole = payload_;
  for (std::size_t bytes = 0; bytes < whole.size(); ++bytes) {
    payload_ = whole.substr(0, bytes);
    EXPECT_LE(read().size(), 1);
    EXPECT_FALSE(is_whole_) << bytes;
  }
  payload_ = whole + "x";
  EXPECT_EQ(read().size(), 2);
  EXPECT_FALSE(is_whole_);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (int value = 0; value < 256; ++value) {
      payload_ = whole;
      payload_[i] = static_cast<char>(value);
      FrameRecords records(header_, as_byte_view(payload_));
      Sequence next = 10;
      std::uint64_t count = 0;
      while (const auto record = records.next()) {
        EXPECT_GE(record->sequence, next);
        EXPECT_LT(record->sequence, 20);
        next = record->sequence + 1;
        ++count;
      }
      EXPECT_LE(count, records.count());
    }
  }
}

TEST(FrameRecordsTest, AnOrdinaryFrameNumbersItsRecords) {
  const auto payload = encoded(Record::put("a", "1")) + encoded(Record::remove("b"));
  FrameHeader header;
  header.record_count = 2;
  header.first_sequence = 40;
  header.time_ms = 8;
  FrameRecords records(header, as_byte_view(payload));
  const auto first = records.next();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->sequence, 40);
  EXPECT_FALSE(first->ends_batch);
  EXPECT_FALSE(records.is_done());
  const auto second = records.next();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->sequence, 41);
  EXPECT_EQ(second->time_ms, 8);
  EXPECT_TRUE(second->ends_batch);
  EXPECT_EQ(second->stored.record.op, Operation::remove);
  EXPECT_FALSE(records.next());
  EXPECT_TRUE(records.is_done());
}

}  // namespace
}  // namespace nori
