// Checksums that match, and bytes that this log's writer would not have put there: of a defect, or
// of files from two copies of a log.
//
// For each: what is read was written, in order, and what is wrong is named.

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "format/record.h"
#include "segment/segment_name.h"
#include "tests/damage/small_log.h"

namespace nori::damage_tests {
namespace {

using testing::SimulatedDisk;
using Bytes = std::vector<std::byte>;

std::string path_of(std::uint64_t segment_id) {
  return fmt::format("{}/{}", kDirectory, segment_name(segment_id));
}

class ForgedTest : public ::testing::Test {
 protected:
  [[nodiscard]] Bytes bytes_of(std::uint64_t id) const { return *disk_->read_file(path_of(id)); }
  void put(std::uint64_t id, ByteView bytes) { ASSERT_TRUE(disk_->write_file(path_of(id), bytes)); }

  // The first frame of this kind from the segment on.
  [[nodiscard]] LogMap::Frame frame_of(FrameKind kind, std::uint64_t segment_id) const {
    return *std::ranges::find_if(map_.frames, [&](const LogMap::Frame& frame) {
      return frame.header.kind == kind && frame.segment_id >= segment_id;
    });
  }
  [[nodiscard]] Bytes payload_of(const LogMap::Frame& frame) const {
    const auto bytes = bytes_of(frame.segment_id);
    return {bytes.begin() + static_cast<std::ptrdiff_t>(frame.offset + kFrameHeaderBytes),
            bytes.begin() + static_cast<std::ptrdiff_t>(frame.end())};
  }
  // Makes the frame's checksums match and puts it into its segment.
  void put_frame(const LogMap::Frame& frame, ByteView payload) {
    auto header = frame.header;
    header.payload_bytes = payload.size();
    header.payload_crc32c = crc32c(0, payload);
    auto bytes = bytes_of(frame.segment_id);
    const auto seed = map_.segments.at(frame.segment_id).header.seed();
    encode_frame_header(header, place_seed(seed, frame.offset), &bytes[frame.offset]);
    std::ranges::copy(payload, &bytes[frame.offset + kFrameHeaderBytes]);
    put(frame.segment_id, bytes);
  }
  // Puts a footer of the segment behind `offset`.
  void put_footer(std::uint64_t id, std::uint64_t offset, const SegmentSummary& summary) {
    auto bytes = bytes_of(id);
    bytes.resize(offset);
    const auto footer = encode_footer(summary, map_.segments.at(id).header.seed(), 4096);
    const auto encoded = as_byte_view(footer);
    bytes.insert(bytes.end(), encoded.begin(), encoded.end());
    put(id, bytes);
  }

  // Readers, openings and verify on one thread and on several: records up to `records`, then
  // damage there, for this reason.
  void expect_damaged(std::uint64_t segment_id, std::uint64_t offset, std::string_view reason,
                      std::uint64_t records) {
    const auto reading = read_small_log(*disk_, Verification::all);
    ASSERT_TRUE(reading.error) << reading.records.size();
    EXPECT_EQ(reading.error->code, ErrorCode::damaged) << reading.error->message;
    EXPECT_NE(reading.error->message.find(
                  fmt::format("{} at offset {}", segment_name(segment_id), offset)),
              std::string::npos)
        << reading.error->message;
    EXPECT_NE(reading.error->message.find(reason), std::string::npos) << reading.error->message;
    EXPECT_EQ(reading.records.size(), records);
    EXPECT_TRUE(is_prefix(reading.records, written_));
    expect_damage_verified(segment_id, offset, reason);
  }
  // The same for a frame that only who reads its records finds to be damaged, at this one of them.
  void expect_read_up_to(const LogMap::Frame& frame, std::uint64_t records,
                         std::string_view reason) {
    const auto reading = read_small_log(*disk_, Verification::tail);
    ASSERT_TRUE(reading.error) << reading.records.size();
    EXPECT_EQ(reading.error->code, ErrorCode::damaged) << reading.error->message;
    EXPECT_NE(reading.error->message.find(reason), std::string::npos) << reading.error->message;
    EXPECT_EQ(reading.records.size(), records);
    EXPECT_TRUE(is_prefix(reading.records, written_));
    expect_damage_verified(frame.segment_id, frame.offset, "the frame's records are malformed");
  }
  void expect_damage_verified(std::uint64_t segment_id, std::uint64_t offset,
                              std::string_view reason) {
    for (const std::uint32_t threads : {1, 2}) {
      const auto report = verify(kDirectory, disk_.get(), nullptr, threads);
      ASSERT_TRUE(report) << report.error().message;
      ASSERT_FALSE(report->damages.empty()) << threads;
      const auto& damage = report->damages.front();
      EXPECT_EQ(damage.segment_id, segment_id) << damage.reason;
      EXPECT_EQ(damage.offset, offset) << damage.reason;
      EXPECT_NE(damage.reason.find(reason), std::string::npos) << damage.reason;
    }
  }

  std::unique_ptr<SimulatedDisk> disk_ = make_small_log(Ending::closed);
  LogMap map_ = LogMap::of(*disk_);
  Records written_ = read_small_log(*disk_, Verification::all).records;
};

TEST_F(ForgedTest, AnOpeningOfAnotherPastIsDamage) {
  const auto opening = frame_of(FrameKind::opening, 1);
  auto payload = payload_of(opening);
  payload[0] ^= std::byte{1};  // a random bit of the epoch before it
  put_frame(opening, payload);
  expect_damaged(opening.segment_id, opening.offset, "an opening frame of another life",
                 opening.header.first_sequence);
}

TEST_F(ForgedTest, ARotationThatSkipsASegmentIsDamage) {
  const auto rotation = frame_of(FrameKind::rotation, 0);
  auto payload = payload_of(rotation);
  payload[0] = std::byte{2};
  put_frame(rotation, payload);
  expect_damaged(rotation.segment_id, rotation.offset, "does not lead to the next segment",
                 rotation.header.first_sequence);
}

TEST_F(ForgedTest, ARotationThatLeadsNowhereIsDamage) {
  const auto rotation = frame_of(FrameKind::rotation, 0);
  put_frame(rotation, ByteView(payload_of(rotation)).first(kRotationPayloadBytes - 1));
  expect_damaged(rotation.segment_id, rotation.offset, "does not lead to the next segment",
                 rotation.header.first_sequence);
}

// Frames whose checksums match and whose payloads are not the records that their headers tell of.
TEST_F(ForgedTest, APayloadOfOtherRecordsIsDamage) {
  const auto batch = *std::ranges::find_if(map_.frames, [](const LogMap::Frame& frame) {
    return frame.header.kind == FrameKind::records && frame.header.record_count > 1;
  });
  const auto first = batch.header.first_sequence;
  {
    auto payload = payload_of(batch);
    payload.front() = std::byte{0xff};
    const auto kept = bytes_of(batch.segment_id);
    put_frame(batch, payload);
    expect_read_up_to(batch, first, fmt::format("record {} is malformed", first));
    put(batch.segment_id, kept);
  }
  // One less than there are.
  auto fewer = batch;
  --fewer.header.record_count;
  put_frame(fewer, payload_of(batch));
  const auto behind = first + fewer.header.record_count;
  expect_read_up_to(batch, behind, fmt::format("record {} is malformed", behind));
}

// A segment of the log says how much it holds: none of it may be another number.
TEST_F(ForgedTest, AFooterThatTellsOtherNumbersIsDamage) {
  const std::function<void(SegmentSummary&)> changes[] = {
      [](SegmentSummary& summary) { ++summary.frames; },
      [](SegmentSummary& summary) { ++summary.records; },
      [](SegmentSummary& summary) { --summary.first_sequence; },
      [](SegmentSummary& summary) { ++summary.end_sequence; },
      [](SegmentSummary& summary) { summary.end_offset += 4096; },
      [](SegmentSummary& summary) { ++summary.epoch; },
  };
  for (const auto& change : changes) {
    SCOPED_TRACE(&change - changes);
    const auto kept = bytes_of(1);
    auto summary = *map_.segments.at(1).footer;
    change(summary);
    put_footer(1, summary.end_offset, summary);
    expect_damage_verified(1, summary.end_offset, "the footer tells of");
    // It is not what the records are read by.
    const auto reading = read_small_log(*disk_, Verification::all);
    EXPECT_TRUE(same(reading.records, written_));
    put(1, kept);
  }
}

// A close frame that does not say where it stands closes nothing: the log is read instead.
TEST_F(ForgedTest, ACloseFrameOfAnotherPlaceIsNoClose) {
  const auto close = frame_of(FrameKind::close, 2);
  auto payload = payload_of(close);
  auto summary = *decode_summary(payload);
  summary.end_offset -= 4096;
  const auto encoded = encode_summary(summary);
  std::ranges::copy(as_byte_view(encoded), payload.begin());
  put_frame(close, payload);
  const auto reading = read_small_log(*disk_, Verification::tail);
  EXPECT_FALSE(reading.error) << reading.error->message;
  EXPECT_TRUE(same(reading.records, written_));
  EXPECT_GT(reading.recovery.segments_scanned, 0U) << "it was not believed";
}

TEST_F(ForgedTest, ACloseFrameThatSaysNothingIsNoClose) {
  const auto close = frame_of(FrameKind::close, 2);
  put_frame(close, Bytes(close.header.payload_bytes));
  const auto reading = read_small_log(*disk_, Verification::tail);
  EXPECT_FALSE(reading.error) << reading.error->message;
  EXPECT_TRUE(same(reading.records, written_));
  EXPECT_GT(reading.recovery.segments_scanned, 0U) << "it was not believed";
}

// Whatever stands where the index leads to: no record is passed over.
TEST_F(ForgedTest, AnIndexThatLeadsAstrayCostsNoRecord) {
  const auto first = frame_of(FrameKind::records, 0);
  const auto padding = frame_of(FrameKind::padding, 0);
  const auto rotation = frame_of(FrameKind::rotation, 0);
  for (const std::uint64_t offset : {first.offset, first.offset + 1, padding.offset,
                                     rotation.offset, rotation.end() + 100'000}) {
    auto summary = *map_.segments.at(0).footer;
    for (Sequence sequence = 1; sequence < summary.end_sequence; ++sequence) {
      summary.index = {{.sequence = sequence, .offset = offset, .time_ms = 0}};
      put_footer(0, summary.end_offset, summary);
      const auto opened = Wal::open(options_on(*disk_, OpenMode::read_only));
      ASSERT_TRUE(opened) << opened.error().message;
      for (Sequence from = 0; from < written_.size(); ++from) {
        auto reader = opened->wal.read_from(from);
        ASSERT_TRUE(reader) << reader.error().message;
        auto expected = from;
        for (const auto& entry : *reader) {
          ASSERT_TRUE(entry) << entry.error().message;
          ASSERT_TRUE(same(entry->copy(), written_.at(expected++)));
        }
        EXPECT_EQ(expected, written_.size());
      }
    }
  }
}

// Past damage a reader goes on with what can have followed: no frame of an earlier opening, and no
// opening that does not say what it followed.
TEST_F(ForgedTest, BehindDamageNoGhostIsRead) {
  const auto newest = map_.segments.back();
  const auto padding = frame_of(FrameKind::padding, newest.id);
  auto ghost = frame_of(FrameKind::records, newest.id);
  const auto payload = payload_of(ghost);
  ASSERT_GT(padding.header.payload_bytes, 1000U);
  ASSERT_TRUE(disk_->flip_bit(path_of(newest.id), padding.offset, 0));
  ghost.offset = padding.offset + 100;
  ghost.header.first_sequence = padding.header.first_sequence + 1;
  ghost.header.durable_mark = ghost.header.first_sequence;
  ghost.header.epoch = std::uint64_t{1} << 40;
  put_frame(ghost, payload);
  auto opening = ghost;
  opening.offset = padding.offset + 500;
  opening.header.kind = FrameKind::opening;
  opening.header.record_count = 0;
  opening.header.first_sequence = padding.header.first_sequence;
  opening.header.durable_mark = 0;
  opening.header.epoch = std::uint64_t{9} << 40;
  put_frame(opening, {});
  const auto reading = read_small_log(*disk_, Verification::tail, true);
  ASSERT_TRUE(reading.error);
  EXPECT_EQ(reading.error->code, ErrorCode::damaged) << reading.error->message;
  EXPECT_EQ(reading.records.size(), padding.header.first_sequence);
  EXPECT_TRUE(same(reading.records_skipping, written_)) << reading.records_skipping.size();
}

// The ring's frames are smaller than the ring, and a rotation there leads to the next segment: a
// header that says otherwise is no frame of the log.
TEST_F(ForgedTest, AFrameThatTheRingCannotHoldIsNone) {
  struct Change {
    std::size_t behind = 0;  ///< So many frames from the last one on go.
    std::string_view holds;
    std::function<void(FrameHeader&)> make;
  };
  const Change changes[] = {
      {2, "j10", [](FrameHeader& header) { header.payload_bytes = 64 * kKiB; }},
      {1, "k11",
       [](FrameHeader& header) {
         header.kind = FrameKind::rotation;
         header.record_count = 0;
       }},
  };
  for (const auto& change : changes) {
    SCOPED_TRACE(change.holds);
    disk_ = make_small_log(Ending::process_died);
    written_ = read_small_log(*disk_, Verification::all).records;
    const auto left = written_.size() - change.behind;
    auto ring = *disk_->read_file("log/ring");
    const auto text = as_text(ring);
    const auto at = text.find(change.holds);
    ASSERT_NE(at, std::string_view::npos);
    // The only place of the ring's segment whose header is valid there.
    const auto map = LogMap::of(*disk_);
    const auto& segment = map.segments.back();
    const auto offset = written_[left].position.offset;
    const auto index = 8192 + ((segment.header.ring_base + offset) & (64 * kKiB - 1));
    const auto seed = place_seed(segment.header.seed(), offset);
    auto header = decode_frame_header(ByteView(ring).subspan(index), seed);
    ASSERT_TRUE(header);
    ASSERT_LT(at - index, 60U);
    change.make(*header);
    encode_frame_header(*header, seed, &ring[index]);
    ASSERT_TRUE(disk_->write_file("log/ring", ring));
    const auto reading = read_small_log(*disk_, Verification::all);
    EXPECT_FALSE(reading.error) << reading.error->message;
    EXPECT_EQ(reading.records.size(), left);
    EXPECT_TRUE(is_prefix(reading.records, written_));
    const auto opened = Wal::open(options_on(*disk_));
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ(opened->recovery.next_sequence, left);
  }
}

// A ring that somebody has copied here holds nothing of this log.
TEST_F(ForgedTest, ARingOfAnotherLogIsNotRead) {
  const auto other = make_small_log(Ending::process_died, 2);
  ASSERT_TRUE(disk_->write_file("log/ring", *other->read_file("log/ring")));
  const auto reading = read_small_log(*disk_, Verification::all);
  EXPECT_FALSE(reading.error) << reading.error->message;
  EXPECT_TRUE(same(reading.records, written_));
  auto opened = Wal::open(options_on(*disk_));
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(opened->recovery.next_sequence, written_.size());
  ASSERT_TRUE(opened->wal.append(Record::put("new", "record")));
  ASSERT_TRUE(opened->wal.close());
  EXPECT_EQ(read_small_log(*disk_, Verification::all).records.size(), written_.size() + 1);
}

// E6 of docs/recovery.md#evidence stands on the header of a file behind the end; where that says
// nothing, its footer may.
TEST_F(ForgedTest, AFooterBehindTheEndIsEvidence) {
  auto header = map_.segments.back().header;
  header.first_segment = header.last_segment = 3;
  header.first_sequence = header.durable_mark = 1;
  Bytes bytes(header.first_offset);
  encode_segment_header(header, bytes.data());
  SegmentSummary summary;
  summary.first_sequence = summary.end_sequence = 1;
  summary.epoch = header.epoch;
  summary.end_offset = header.first_offset;
  for (const bool is_evidence : {false, true}) {
    summary.durable_mark = is_evidence ? written_.size() + 1 : 1;
    const auto footer = encode_footer(summary, header.seed(), 4096);
    auto file = bytes;
    file.insert(file.end(), as_byte_view(footer).begin(), as_byte_view(footer).end());
    put(3, file);
    const auto reading = read_small_log(*disk_, Verification::all);
    ASSERT_EQ(reading.error.has_value(), is_evidence) << reading.error->message;
    EXPECT_TRUE(same(reading.records, written_));
    if (is_evidence) {
      EXPECT_NE(reading.error->message.find("the footer of 000003.wal"), std::string::npos)
          << reading.error->message;
    }
  }
}

// --- compressed values ---------------------------------------------------------------------------

class ForgedValueTest : public ::testing::TestWithParam<Compression> {};

TEST_P(ForgedValueTest, OneThatCannotBeDecompressedIsDamage) {
  SimulatedDisk disk(1);
  auto options = options_on(disk);
  options.compression = GetParam();
  const std::string value(10'000, 'v');
  {
    auto opened = Wal::open(options);
    ASSERT_TRUE(opened) << opened.error().message;
    for (int i = 0; i < 9; ++i) {
      ASSERT_TRUE(opened->wal.append(Record::put(fmt::format("{}", i), value)));
      if (i % 3 == 2) {
        ASSERT_TRUE(opened->wal.rotate());
      }
    }
    ASSERT_TRUE(opened->wal.close());
  }
  const auto map = LogMap::of(disk);
  const auto frame = *std::ranges::find_if(map.frames, [](const LogMap::Frame& of) {
    return of.header.kind == FrameKind::records && of.header.first_sequence == 4;
  });
  auto bytes = *disk.read_file(path_of(frame.segment_id));
  const auto payload =
      ByteSpan(bytes).subspan(frame.offset + kFrameHeaderBytes, frame.header.payload_bytes);
  auto left = ByteView(payload);
  const auto stored = decode_record(left);
  ASSERT_TRUE(stored && stored->compression == GetParam());
  // What says how long the value is stays: 7 bytes of a Zstandard frame.
  const auto garbled = stored->record.value.size() - 7;
  std::memset(payload.last(garbled).data(), 0xff, garbled);
  auto header = frame.header;
  header.payload_crc32c = crc32c(0, payload);
  encode_frame_header(header,
                      place_seed(map.segments.at(frame.segment_id).header.seed(), frame.offset),
                      &bytes[frame.offset]);
  ASSERT_TRUE(disk.write_file(path_of(frame.segment_id), bytes));

  const auto reading = read_small_log(disk, Verification::tail, true);
  ASSERT_TRUE(reading.error);
  EXPECT_EQ(reading.error->code, ErrorCode::damaged);
  EXPECT_NE(reading.error->message.find("the value of record 4 cannot be decompressed"),
            std::string::npos)
      << reading.error->message;
  EXPECT_NE(reading.error->message.find(
                fmt::format("{} at offset {}", segment_name(frame.segment_id), frame.offset)),
            std::string::npos)
      << reading.error->message;
  EXPECT_NE(reading.error->message.find("records before 4 are good"), std::string::npos);
  EXPECT_EQ(reading.records.size(), 4U);
  ASSERT_EQ(reading.records_skipping.size(), 8U);
  for (const auto& entry : reading.records_skipping) {
    EXPECT_NE(entry.sequence, 4U);
    EXPECT_TRUE(entry.value == value);
  }
  for (const std::uint32_t threads : {1, 2}) {
    const auto report = verify(kDirectory, &disk, nullptr, threads);
    ASSERT_TRUE(report) << report.error().message;
    ASSERT_EQ(report->damages.size(), 1U);
    EXPECT_EQ(report->damages.front().segment_id, frame.segment_id);
    EXPECT_EQ(report->damages.front().offset, frame.offset);
    EXPECT_EQ(report->damages.front().reason, "the frame's records are malformed");
  }
}

INSTANTIATE_TEST_SUITE_P(Both, ForgedValueTest,
                         ::testing::Values(Compression::lz4, Compression::zstd),
                         [](const auto& of) {
                           return of.param == Compression::lz4 ? "Lz4" : "Zstd";
                         });

// --- two copies of a log -------------------------------------------------------------------------

// Goes on for three segments, two of them sealed, the first with so many records.
void go_on(SimulatedDisk& disk, int records) {
  auto opened = Wal::open(options_on(disk));
  ASSERT_TRUE(opened) << opened.error().message;
  for (int i = 0; i < records; ++i) {
    ASSERT_TRUE(opened->wal.append(Record::put("k", fmt::format("{} of {}", i, records))));
  }
  for (int i = 0; i < 2; ++i) {
    const auto rotated = opened->wal.rotate();
    ASSERT_TRUE(rotated) << rotated.error().message;
    ASSERT_TRUE(opened->wal.append(Record::put("k", "v")));
  }
  ASSERT_TRUE(opened->wal.close());
}

// Goal: segments of two copies of a log that went on apart are not one log, however sound each is.
// Method: the copies differ in the number of their records, in nothing but what was drawn at
// random, and in the size of their blocks.
TEST(ForgedLogTest, SegmentsOfTwoCopiesAreNotOne) {
  const SimulatedDisk begun(1);
  const auto one = begun.clone();
  {
    auto opened = Wal::open(options_on(*one));
    ASSERT_TRUE(opened);
    ASSERT_TRUE(opened->wal.append(Record::put("first", "")));
    ASSERT_TRUE(opened->wal.close());
  }
  const auto more = one->clone();
  const auto drawn_anew = one->clone();
  const auto larger_blocks = one->clone();
  go_on(*one, 3);
  go_on(*more, 5);
  static_cast<void>(drawn_anew->random_bits());
  go_on(*drawn_anew, 3);
  larger_blocks->set_traits({.direct_alignment = 4096,
                             .block_bytes = 8192,
                             .direct_allowed = true,
                             .mapping_allowed = true,
                             .file_system_name = "simulated"});
  go_on(*larger_blocks, 3);
  const auto written = read_small_log(*one, Verification::all).records;
  for (const auto* other : {more.get(), drawn_anew.get(), larger_blocks.get()}) {
    const auto disk = one->clone();
    ASSERT_TRUE(disk->write_file(path_of(1), *other->read_file(path_of(1))));
    const auto opened = Wal::open(options_on(*disk, OpenMode::create, Verification::all));
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code, ErrorCode::damaged) << opened.error().message;
    const auto reading = read_small_log(*disk, Verification::tail);
    ASSERT_TRUE(reading.error);
    EXPECT_EQ(reading.error->code, ErrorCode::damaged) << reading.error->message;
    EXPECT_EQ(reading.records.size(), 4U);
    EXPECT_TRUE(is_prefix(reading.records, written));
    std::vector<std::string> told;
    for (const std::uint32_t threads : {1, 2}) {
      const auto report = verify(kDirectory, disk.get(), nullptr, threads);
      ASSERT_TRUE(report) << report.error().message;
      EXPECT_FALSE(report->damages.empty());
      EXPECT_EQ(report->damages.front().segment_id, 1U);
      for (const auto& damage : report->damages) {
        told.push_back(fmt::format("{} at {}: {}", threads, damage.offset, damage.reason));
      }
    }
    EXPECT_EQ(told.size() % 2, 0U) << fmt::format("{}", fmt::join(told, "\n"));
  }
}

}  // namespace
}  // namespace nori::damage_tests
