// Every single-bit flip and every truncation length of a small log.
//
// Two promises are checked for each alteration. Whatever is read is a prefix of what was written,
// record by record. And damage is told from a torn tail exactly as docs/recovery.md says: `damaged`
// with the place where something says that more had been durable, the end of a torn tail where
// nothing does. An oracle of its own (expect_of) says which of the two is due.
//
// Every flip in a header or a frame is damage, is noticed by open, readers and verify, and costs
// what it hit and nothing else. The exceptions, each asserted:
//
//   class          where                                 what it costs, who notices
//   header zeros   behind a segment's header             nothing, nobody: no field is there
//   footer         of a sealed segment                   nothing, nobody: it repeats what the
//                                                        frames say, and they are read
//   behind end     space reserved and never written      no record; open and verify report a torn
//                                                        tail
//   newest frames  those that no mark behind them        the same as behind the end, and of a log
//                  attests; of a closed log: padding     cut off by a power cut the records since
//                  and the close frame                   its newest mark
//   ring           of a process that died                appended records that were never durable;
//                                                        its header, all of them
//   healed         a segment whose frames the ring       nothing
//                  still has

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "format/ring_header.h"
#include "segment/segment_name.h"
#include "testing/is_sanitized.h"
#include "tests/damage/small_log.h"

namespace nori::damage_tests {
namespace {

using testing::SimulatedDisk;

// Under a sanitizer one in so many alterations is tried.
constexpr std::uint64_t kStride = testing::kIsSanitized ? 13 : 1;
// Around a frame's end, in bytes: its header and some more.
constexpr std::uint64_t kNearBytes = 48;
// Of the bytes that are zero one in so many is tried, with one bit.
constexpr std::uint64_t kBlankStride = 97;

std::string path_of(std::uint64_t segment_id) {
  return fmt::format("{}/{}", kDirectory, segment_name(segment_id));
}

// Where a byte is, for the table above.
enum class Area : std::uint8_t { header, header_zeros, frame, newest_frames, footer, behind_end };

constexpr std::string_view kAreaNames[] = {"header",        "header zeros", "frame",
                                           "newest frames", "footer",       "behind end"};

struct Count {
  std::uint64_t flips = 0;
  std::uint64_t damaged = 0;
  std::uint64_t torn = 0;
  std::uint64_t costly = 0;  ///< That cost a record.
};

class DamagedBytesTest : public ::testing::TestWithParam<Ending> {
 protected:
  DamagedBytesTest()
      : disk_(make_small_log(GetParam())),
        map_(LogMap::of(*disk_)),
        written_(read_small_log(*disk_, Verification::all).records) {}

  void SetUp() override {
    ASSERT_EQ(map_.segments.size(), 3U);
    ASSERT_EQ(written_.size(), map_.next_sequence());
    ASSERT_GE(written_.size(), 14U);
  }

  [[nodiscard]] Area area_of(std::uint64_t segment_id, std::uint64_t offset) const {
    const auto& segment = map_.segments[segment_id];
    if (offset < kSegmentHeaderBytes) {
      return Area::header;
    }
    if (offset < segment.header.first_offset) {
      return Area::header_zeros;
    }
    if (const auto frame = map_.frame_at(segment_id, offset); frame) {
      return expect_of(map_, alteration_at(segment_id, offset)).damaged ? Area::frame
                                                                        : Area::newest_frames;
    }
    return segment.footer ? Area::footer : Area::behind_end;
  }

  // What a flip in this byte voids.
  [[nodiscard]] Alteration alteration_at(std::uint64_t segment_id, std::uint64_t offset) const {
    Alteration alteration{.segment_id = segment_id, .frame = {}};
    alteration.header = offset < kSegmentHeaderBytes;
    alteration.frame = map_.frame_at(segment_id, offset);
    alteration.frame_header =
        alteration.frame && offset < map_.frames[*alteration.frame].offset + kFrameHeaderBytes;
    return alteration;
  }

  // Nothing may be read that was not written, or behind a hole.
  void expect_prefix(const Reading& reading, const Expectation& expected) const {
    EXPECT_TRUE(is_prefix(reading.records, written_));
    if (reading.error) {
      EXPECT_EQ(reading.error->code, ErrorCode::damaged) << reading.error->message;
    }
    EXPECT_EQ(reading.records.size(), expected.records);
  }

  // The place is named, in the message and in the error.
  static void expect_place(const Error& error, const Expectation& expected) {
    EXPECT_EQ(error.code, ErrorCode::damaged) << error.message;
    EXPECT_NE(error.message.find(segment_name(expected.segment_id)), std::string::npos)
        << error.message;
    if (error.position) {
      EXPECT_EQ(error.position->segment_id, expected.segment_id);
      EXPECT_TRUE(error.position->offset == expected.offset || error.position->offset == 0)
          << error.message;
      EXPECT_EQ(error.position->sequence, expected.records);
    }
  }

  // What a read-only opening and its reader make of it.
  void check_reading(SimulatedDisk& disk, const Expectation& expected) {
    const auto reading = read_small_log(disk, Verification::all);
    expect_prefix(reading, expected);
    EXPECT_EQ(reading.error.has_value(), expected.damaged);
    if (reading.error) {
      expect_place(*reading.error, expected);
    }
    EXPECT_EQ(reading.recovery.corruption_detected, expected.damaged);
  }

  // All that is to be true of a log that was altered so.
  VerifyReport check(SimulatedDisk& disk, const Expectation& expected) {
    const auto before = disk.operations();
    check_reading(disk, expected);
    expect_prefix(read_small_log(disk, Verification::tail), expected);

    const auto report = verify(kDirectory, &disk);
    if (!report) {
      ADD_FAILURE() << report.error().message;
      return {};
    }
    EXPECT_EQ(!report->damages.empty(), expected.damaged);
    if (expected.damaged && !report->damages.empty()) {
      const auto& damage = report->damages.front();
      EXPECT_EQ(damage.segment_id, expected.segment_id);
      EXPECT_TRUE(damage.offset == expected.offset || damage.offset == 0) << damage.offset;
      EXPECT_FALSE(damage.reason.empty());
    }
    EXPECT_EQ(disk.operations(), before) << "reading changed something";

    const auto all = Wal::open(options_on(disk, OpenMode::existing, Verification::all));
    EXPECT_EQ(all.has_value(), !expected.damaged);
    if (!all) {
      expect_place(all.error(), expected);
      EXPECT_EQ(disk.operations(), before) << "a refused opening changed something";
    }
    return *report;
  }

  // After a flip in a frame or a segment's header: with skip_damaged all else is read.
  void check_skipping(SimulatedDisk& disk, const Alteration& alteration) {
    const auto reading = read_small_log(disk, Verification::tail, true);
    Records expected;
    const auto first = alteration.header
                           ? map_.segments[alteration.segment_id].header.first_sequence
                           : map_.frames[*alteration.frame].header.first_sequence;
    const auto end = !alteration.header ? map_.frames[*alteration.frame].header.end_sequence()
                     : alteration.segment_id + 1 < map_.segments.size()
                         ? map_.segments[alteration.segment_id + 1].header.first_sequence
                         : map_.next_sequence();
    for (const auto& record : written_) {
      if (record.sequence < first || record.sequence >= end) {
        expected.push_back(record);
      }
    }
    EXPECT_TRUE(same(reading.records_skipping, expected))
        << reading.records_skipping.size() << " of " << expected.size();
  }

  // What opened without damage can be appended to, and holds what was left and that.
  void check_goes_on(SimulatedDisk& disk, std::uint64_t records) {
    auto opened = Wal::open(options_on(disk));
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_EQ(opened->recovery.next_sequence, records);
    ASSERT_TRUE(opened->wal.append(Record::put("new", "record"), Durability::durable));
    ASSERT_TRUE(opened->wal.close());
    const auto reading = read_small_log(disk, Verification::all);
    EXPECT_FALSE(reading.error) << reading.error->message;
    ASSERT_EQ(reading.records.size(), records + 1);
    EXPECT_EQ(reading.records.back().key, "new");
    EXPECT_TRUE(is_prefix(Records(reading.records.begin(), reading.records.end() - 1), written_));
  }

  std::unique_ptr<SimulatedDisk> disk_;
  LogMap map_;
  Records written_;
};

INSTANTIATE_TEST_SUITE_P(Endings, DamagedBytesTest,
                         ::testing::Values(Ending::closed, Ending::power_cut), [](const auto& of) {
                           return of.param == Ending::closed ? "Closed" : "PowerCut";
                         });

// Goal: no flipped bit is ever returned as data, hides a record silently or costs one that the log
// still has.
// Method: all bits of all bytes that are not zero, some of those that are; a flip voids just the
// frame or header it is in, by its checksum.
TEST_P(DamagedBytesTest, EveryFlippedBitIsToldForWhatItIs) {
  std::map<Area, Count> counts;
  std::uint64_t turn = 0;
  for (const auto& segment : map_.segments) {
    const auto bytes = *disk_->read_file(path_of(segment.id));
    for (std::uint64_t offset = 0; offset < bytes.size(); ++offset) {
      const bool is_blank = bytes[offset] == std::byte{0};
      if (is_blank && offset % kBlankStride != 0) {
        continue;
      }
      for (unsigned bit = 0; bit < 8; ++bit) {
        if ((is_blank && bit != offset / kBlankStride % 8) || turn++ % kStride != 0) {
          continue;
        }
        SCOPED_TRACE(fmt::format("{}:{} bit {}", segment.id, offset, bit));
        const auto disk = disk_->clone();
        ASSERT_TRUE(disk->flip_bit(path_of(segment.id), offset, bit));
        const auto alteration = alteration_at(segment.id, offset);
        const auto expected = expect_of(map_, alteration);
        const auto report = check(*disk, expected);
        if (!expected.damaged) {
          check_goes_on(*disk, expected.records);
        } else if (!alteration.header || segment.id != 0) {
          check_skipping(*disk, alteration);
        }
        auto& count = counts[area_of(segment.id, offset)];
        ++count.flips;
        count.damaged += report.damages.empty() ? 0 : 1;
        count.torn += report.damages.empty() && report.bytes_torn != 0 ? 1 : 0;
        count.costly += expected.records < map_.next_sequence() ? 1 : 0;
        if (HasFailure()) {
          return;  // one is enough to read
        }
      }
    }
  }
  // The table at the top.
  const bool is_closed = GetParam() == Ending::closed;
  for (const auto& [area, count] : counts) {
    SCOPED_TRACE(kAreaNames[static_cast<std::size_t>(area)]);
    const bool is_damage = area == Area::header || area == Area::frame;
    const bool is_torn = area == Area::newest_frames || area == Area::behind_end;
    EXPECT_EQ(count.damaged, is_damage ? count.flips : 0);
    EXPECT_EQ(count.torn, is_torn ? count.flips : 0);
    const bool may_cost = is_damage || (area == Area::newest_frames && !is_closed);
    EXPECT_EQ(count.costly != 0, may_cost);
    RecordProperty(std::string(kAreaNames[static_cast<std::size_t>(area)]),
                   fmt::format("{} flips, {} damaged, {} torn, {} cost a record", count.flips,
                               count.damaged, count.torn, count.costly));
  }
  EXPECT_EQ(counts.size(), is_closed ? 5U : 6U);
}

// Goal: a file cut short is never read beyond, and never mistaken for a shorter log where anything
// says that it was longer.
// Method: every length of a sealed segment, and of the newest one up to the end of its frames.
// Every one is read; verify and an opening for writing have their turn near a frame's ends and now
// and then in between.
TEST_P(DamagedBytesTest, EveryTruncationIsToldForWhatItIs) {
  for (const std::uint64_t id : {1, 2}) {
    const auto& segment = map_.segments[id];
    const auto bytes = *disk_->read_file(path_of(id));
    const auto lengths = std::min<std::uint64_t>(bytes.size(), segment.frames_end + 4096);
    for (std::uint64_t length = 0; length < lengths; length += kStride) {
      SCOPED_TRACE(fmt::format("{} cut to {} bytes", segment_name(id), length));
      const auto disk = disk_->clone();
      ASSERT_TRUE(disk->write_file(path_of(id), ByteView(bytes).first(length)));
      Alteration alteration{.segment_id = id, .frame = {}, .all_behind = true};
      alteration.header = length < kSegmentHeaderBytes;
      for (auto i = segment.first_frame; i < map_.frames.size() && map_.frames[i].segment_id == id;
           ++i) {
        if (map_.frames[i].end() > length) {
          alteration.frame = i;
          break;
        }
      }
      const auto expected = expect_of(map_, alteration);
      const bool is_near_an_end =
          length < 2 * kSegmentHeaderBytes || std::ranges::any_of(
                                                  map_.frames,
                                                  [&](const LogMap::Frame& frame) {
                                                    return frame.segment_id == id &&
                                                           length + kNearBytes >= frame.end() &&
                                                           length <= frame.end() + kNearBytes;
                                                  });
      if (is_near_an_end || length % 32 == 0) {
        static_cast<void>(check(*disk, expected));
      } else {
        check_reading(*disk, expected);
      }
      // A sealed segment's length is attested by what follows it; the newest one's by nothing.
      EXPECT_EQ(expected.damaged, alteration.header || (id == 1 && length < segment.frames_end));
      if (!expected.damaged && length % 16 == 0) {
        check_goes_on(*disk, expected.records);
      }
      if (HasFailure()) {
        return;
      }
    }
  }
}

// A process that died: its newest frames are only in the ring, and those before in both.
class DamagedRingTest : public ::testing::Test {
 protected:
  DamagedRingTest()
      : disk_(make_small_log(Ending::process_died)),
        map_(LogMap::of(*disk_)),
        written_(read_small_log(*disk_, Verification::all).records) {}

  void SetUp() override { ASSERT_EQ(written_.size(), map_.next_sequence() + 2); }

  std::unique_ptr<SimulatedDisk> disk_;
  LogMap map_;
  Records written_;
};

// Goal: a ring that rots costs what was only appended, never what was durable.
TEST_F(DamagedRingTest, AFlipInTheRingCostsNothingDurable) {
  constexpr std::string_view kRing = "log/ring";
  const auto bytes = *disk_->read_file(kRing);
  std::map<std::size_t, std::uint64_t> flips_by_records_lost;
  std::uint64_t turn = 0;
  for (std::uint64_t offset = 0; offset < bytes.size(); ++offset) {
    for (unsigned bit = 0; bit < 8 && bytes[offset] != std::byte{0}; ++bit) {
      if (turn++ % kStride != 0) {
        continue;
      }
      SCOPED_TRACE(fmt::format("ring:{} bit {}", offset, bit));
      const auto disk = disk_->clone();
      ASSERT_TRUE(disk->flip_bit(kRing, offset, bit));
      const auto before = files_of(*disk);
      for (const auto verification : {Verification::tail, Verification::all}) {
        const auto reading = read_small_log(*disk, verification);
        EXPECT_FALSE(reading.error) << reading.error->message;
        EXPECT_TRUE(is_prefix(reading.records, written_));
        EXPECT_GE(reading.records.size(), map_.next_sequence());
      }
      const auto report = verify(kDirectory, disk.get());
      ASSERT_TRUE(report) << report.error().message;
      EXPECT_TRUE(report->damages.empty());
      EXPECT_EQ(files_of(*disk), before);

      auto opened = Wal::open(options_on(*disk));
      ASSERT_TRUE(opened) << opened.error().message;
      const auto records = opened->recovery.next_sequence;
      ASSERT_TRUE(opened->wal.close());
      const auto reading = read_small_log(*disk, Verification::all);
      EXPECT_EQ(reading.records.size(), records);
      EXPECT_TRUE(is_prefix(reading.records, written_));
      ++flips_by_records_lost[written_.size() - records];
      if (HasFailure()) {
        return;
      }
    }
  }
  // The header or the frame before the last one; the last one; all else.
  EXPECT_EQ(flips_by_records_lost.size(), 3U);
}

// Goal: a good copy in the ring heals a bad frame in the segment before anything is judged.
TEST_F(DamagedRingTest, WhatTheRingStillHasIsHealed) {
  std::uint64_t healed = 0;
  std::uint64_t damaged = 0;
  for (std::size_t i = 0; i < map_.frames.size(); ++i) {
    const auto& frame = map_.frames[i];
    // All that the second opening placed; its opening frame went straight to the segment.
    const bool in_ring = frame.header.epoch >> 40 == 2 && frame.header.kind != FrameKind::opening;
    for (auto offset = frame.offset; offset < frame.end(); offset += 11) {
      SCOPED_TRACE(fmt::format("{}:{}", frame.segment_id, offset));
      const auto disk = disk_->clone();
      ASSERT_TRUE(disk->flip_bit(path_of(frame.segment_id), offset, offset % 8));
      const auto reading = read_small_log(*disk, Verification::all);
      EXPECT_TRUE(is_prefix(reading.records, written_));
      EXPECT_EQ(reading.records.size(), in_ring ? written_.size() : frame.header.first_sequence);
      EXPECT_EQ(reading.error.has_value(), !in_ring);
      const auto report = verify(kDirectory, disk.get());
      ASSERT_TRUE(report) << report.error().message;
      EXPECT_EQ(report->damages.empty(), in_ring);
      auto opened = Wal::open(options_on(*disk, OpenMode::existing, Verification::all));
      EXPECT_EQ(opened.has_value(), in_ring);
      if (opened) {
        ASSERT_TRUE(opened->wal.close());
        EXPECT_TRUE(is_prefix(written_, read_small_log(*disk, Verification::all).records));
        // Written again: also the ring gone, it is whole.
        EXPECT_EQ(verify(kDirectory, disk.get())->damages.size(), 0U);
      }
      ++(in_ring ? healed : damaged);
      if (HasFailure()) {
        return;
      }
    }
  }
  EXPECT_GT(healed, 0U);
  EXPECT_GT(damaged, 0U);
}

// Goal: what a footer stands behind is never cut as a torn tail, although nothing else is left to
// say that it was durable.
// Method: of a log only its sealed first segment is left; a bit of each of its frames flips.
TEST(DamagedSealedSegmentTest, ItsOwnFooterSaysThatItWasDurable) {
  const auto whole = make_small_log(Ending::closed);
  const auto map = LogMap::of(*whole);
  ASSERT_TRUE(map.segments[0].footer);
  ASSERT_TRUE(whole->remove_file(path_of(1)));
  ASSERT_TRUE(whole->remove_file(path_of(2)));
  std::uint64_t frames = 0;
  for (const auto& frame : map.frames) {
    if (frame.segment_id != 0) {
      continue;
    }
    ++frames;
    for (const std::uint64_t at : {std::uint64_t{20}, frame.header.frame_bytes() - 1}) {
      SCOPED_TRACE(fmt::format("{}:{}", frame.offset, at));
      const auto disk = whole->clone();
      ASSERT_TRUE(disk->flip_bit(path_of(0), frame.offset + at, 1));
      const auto before = files_of(*disk);
      const auto opened = Wal::open(options_on(*disk, OpenMode::existing, Verification::all));
      ASSERT_FALSE(opened) << opened->recovery.reason;
      EXPECT_EQ(opened.error().code, ErrorCode::damaged) << opened.error().message;
      EXPECT_EQ(opened.error().position->offset, frame.offset);
      EXPECT_EQ(files_of(*disk), before);
      const auto reading = read_small_log(*disk, Verification::all);
      EXPECT_EQ(reading.records.size(), frame.header.first_sequence);
      ASSERT_TRUE(reading.error);
      EXPECT_EQ(reading.error->code, ErrorCode::damaged);
    }
  }
  EXPECT_GE(frames, 5U);
}

}  // namespace
}  // namespace nori::damage_tests
