// Goal: more sequences than one frame can cover may lie between two records that are left, or
// behind the last one. A frame covers 2^28: no test appends so many.
// Method: a compacted file, put together by hand, of which that has been dropped already.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/crc32c.h"
#include "format/frame.h"
#include "format/frame_records.h"
#include "format/record.h"
#include "format/segment_footer.h"
#include "format/segment_header.h"
#include "nori/wal.h"
#include "segment/segment_files.h"
#include "segment/segment_name.h"
#include "segment/summary_builder.h"
#include "tests/gc/compaction_fixture.h"

namespace nori::gc_tests {
namespace {

constexpr std::uint64_t kBlockBytes = 4096;

std::byte* at(std::string& bytes, std::uint64_t offset) {
  return reinterpret_cast<std::byte*>(bytes.data() + offset);
}

class ForgedFile {
 public:
  explicit ForgedFile(const SegmentHeader& header)
      : header_(header), bytes_(header.first_offset, '\0'), summary_(header.first_sequence) {
    encode_segment_header(header, at(bytes_, 0));
    frame_.begin(header.first_sequence, header.epoch);
  }

  // What lies before it was dropped.
  void add(Sequence sequence, std::string_view key, std::string_view value) {
    cover(sequence);
    std::string bytes;
    append_record(bytes, Record::put(key, value), Compression::none, 0);
    FrameRecord record;
    record.sequence = sequence;
    record.time_ms = header_.created_ms;
    record.ends_batch = true;
    record.bytes = as_byte_view(bytes);
    frame_.add(record);
  }

  // The file's bytes, and all between its last record and `end` dropped.
  std::string finish(Sequence end) {
    cover(end);
    end_frame(end);
    std::string payload(kBlockBytes - (bytes_.size() + kFrameHeaderBytes) % kBlockBytes, '\0');
    encode_rotation({.next_segment_id = header_.last_segment + 1,
                     .next_offset = kBlockBytes,
                     .next_ring_base = 0},
                    at(payload, 0));
    FrameHeader rotation;
    rotation.kind = FrameKind::rotation;
    rotation.first_sequence = end;
    put(rotation, payload, 0);
    auto summary = summary_.summary();
    summary.durable_mark = end;
    return bytes_ + encode_footer(summary, header_.seed(), kBlockBytes);
  }

 private:
  void cover(Sequence sequence) {
    while (sequence - frame_.first_sequence() >= kRecordsPerFrameMax) {
      end_frame(frame_.first_sequence() + kRecordsPerFrameMax);
    }
  }
  void end_frame(Sequence end) {
    const auto header = frame_.header(end, header_.created_ms);
    const auto [front, records] = frame_.payload();
    put(header, std::string(as_text(front)) + std::string(as_text(records)), frame_.record_count());
    frame_.begin(end, header_.epoch);
  }
  void put(FrameHeader header, const std::string& payload, std::uint64_t records) {
    header.epoch = header_.epoch;
    header.time_ms = header_.created_ms;
    header.durable_mark = header_.durable_mark;
    header.payload_bytes = payload.size();
    header.payload_crc32c = crc32c(0, as_byte_view(payload));
    const auto offset = bytes_.size();
    bytes_.resize(offset + kFrameHeaderBytes);
    encode_frame_header(header, place_seed(header_.seed(), offset), at(bytes_, offset));
    bytes_ += payload;
    summary_.add(header, offset, records);
  }

  const SegmentHeader header_;
  std::string bytes_;
  SummaryBuilder summary_;
  CompactedFrame frame_;
};

class FarApartTest : public CompactionTest {
 protected:
  static constexpr Sequence kFar = 2 * kRecordsPerFrameMax + 5;
  static constexpr Sequence kEnd = 2 * kFar;

  void SetUp() override {
    SegmentHeader header;
    header.log_id.bytes.fill(std::byte{7});
    header.generation = 1;
    header.epoch = std::uint64_t{1} << 40 | 1;
    header.durable_mark = kEnd;
    header.created_ms = 1'700'000'000'000;
    header.first_offset = kBlockBytes;
    ForgedFile file(header);
    file.add(0, "a", filled("1"));
    for (Sequence i = 0; i < 8; ++i) {
      file.add(kFar + i, "b", filled(fmt::format("{}", i)));
    }
    const auto bytes = file.finish(kEnd);
    ASSERT_TRUE(disk_.write_file("log/000000-000000.wal", as_byte_view(bytes)));
    header.generation = 0;
    header.first_segment = header.last_segment = 1;
    header.first_sequence = kEnd;
    ASSERT_TRUE(create_segment(**disk_.open_directory("log", false), header, {}));
  }
};

TEST_F(FarApartTest, RecordsStayWhereTheyAre) {
  open();
  Lines lines{"0 a=1"};
  for (int i = 0; i < 8; ++i) {
    lines.push_back(fmt::format("{} b={}", kFar + static_cast<Sequence>(i), i));
  }
  ASSERT_EQ(lines_of(*wal_), lines);
  expect_sound();
  EXPECT_EQ(compact().records_after, 2);
  EXPECT_EQ(lines_of(*wal_), (Lines{"0 a=1", fmt::format("{} b=7", kFar + 7)}));
  expect_sound();
  EXPECT_EQ(wal_->append(Record::put("c", "1"))->sequence, kEnd);
  options_.verification = Verification::all;
  open();
  EXPECT_EQ(lines_of(*wal_).back(), fmt::format("{} c=1", kEnd));
  EXPECT_EQ(lines_of(*wal_, kFar + 8), Lines{fmt::format("{} c=1", kEnd)});
}

TEST_F(FarApartTest, AStepThatFailsBetweenThemEndsIt) {
  open();
  const auto before = lines_of(*wal_);
  for (int last = 0;; ++last) {
    int steps = 0;
    const auto step = [&](std::uint64_t /*bytes*/) -> Result<void> {
      if (steps++ == last) {
        return std::unexpected(Error{.code = ErrorCode::closed, .message = "closing"});
      }
      return {};
    };
    const auto report = compact_with(disk_, 1, step, no_limits);
    if (steps <= last) {
      EXPECT_TRUE(report) << report.error().message;
      break;
    }
    EXPECT_FALSE(report);
    EXPECT_EQ(lines_of(*wal_), before);
  }
  EXPECT_EQ(lines_of(*wal_).size(), 2);
}

}  // namespace
}  // namespace nori::gc_tests
