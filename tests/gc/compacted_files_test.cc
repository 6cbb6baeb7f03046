// What a reader finds in compacted files: where it seeks, beside a compaction, and where they are
// damaged.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "format/frame.h"
#include "format/segment_header.h"
#include "nori/garbage.h"
#include "nori/verify.h"
#include "nori/wal.h"
#include "testing/fault_plan.h"
#include "tests/gc/compaction_fixture.h"

namespace nori::gc_tests {
namespace {

using On = testing::Operation;

class CompactedFilesTest : public CompactionTest {
 protected:
  // As another process reads it.
  Result<Opened> open_read_only() {
    auto options = options_;
    options.mode = OpenMode::read_only;
    return Wal::open(options);
  }
};

// --- Where one seeks

TEST_F(CompactedFilesTest, ALargeOneIsSoughtIn) {
  constexpr int kRecords = 200;
  options_.segment_bytes = 4 * kMiB;
  open();
  for (int i = 0; i < kRecords; ++i) {
    disk_.advance_ms(1);
    const auto key = i % 2 == 0 ? std::string("again") : fmt::format("k{}", i);
    ASSERT_TRUE(wal_->append(Record::put(key, std::string(10'000, 'v'))));
  }
  ASSERT_TRUE(wal_->rotate());
  EXPECT_EQ(compact().files, Lines{"000000-000000.wal"});
  for (Sequence from = 0; from < kRecords - 1; ++from) {
    const auto found = wal_->read_from(from)->next();
    ASSERT_TRUE(found && *found) << from;
    const auto expected = from | 1;
    EXPECT_EQ((*found)->sequence, from == kRecords - 2 ? from : expected);
    const auto by_time = wal_->read_from((*found)->time)->next();
    ASSERT_TRUE(by_time && *by_time) << from;
    EXPECT_EQ((*by_time)->sequence, (*found)->sequence);
  }
}

TEST_F(CompactedFilesTest, CompressedValuesStayWhatTheyWere) {
  for (const auto compression : {Compression::lz4, Compression::zstd}) {
    options_.compression = compression;
    options_.directory = fmt::format("log{}", static_cast<int>(compression));
    open();
    const std::string value(3000, 'v');
    for (int i = 0; i < 300; ++i) {
      ASSERT_TRUE(wal_->append(Record::put(fmt::format("k{}", i % 2), value)));
    }
    ASSERT_TRUE(wal_->rotate());
    ASSERT_EQ(compact().records_after, 2);
    auto reader = wal_->read_from(begin_of_log);
    for (const auto& entry : *reader) {
      ASSERT_TRUE(entry) << entry.error().message;
      EXPECT_EQ(entry->value, value);
    }
  }
}

// --- Beside a compaction

// Goal: an error on the way into the file that took a segment's place is told once, and the reader
// goes on from where it was.
TEST_F(CompactedFilesTest, AReaderThatFailsOnTheWayThereGoesOn) {
  for (const auto operation : {On::open, On::read, On::status, On::list}) {
    for (std::uint64_t after = 0;; ++after) {
      options_.directory = fmt::format("log {} {}", testing::operation_name(operation), after);
      open();
      segment({"a=1", "b=1"});
      segment({"c=1", "a=2"});
      segment({"d=1", "e=1"});
      // More than the ring holds, so that nothing of that is read there.
      for (int i = 0; i < 10; ++i) {
        ASSERT_TRUE(wal_->append(Record::put(fmt::format("f{}", i), std::string(10'000, 'v'))));
      }
      auto reader = wal_->read_from(begin_of_log);
      Lines read{line_of(reader->next()->value())};
      compact();
      const auto hits = disk_.faults_hit();
      disk_.fail_nth(operation, after, EIO);
      int errors = 0;
      while (true) {
        const auto entry = reader->next();
        if (!entry) {
          EXPECT_EQ(entry.error().code, ErrorCode::io) << entry.error().message;
          ASSERT_LE(++errors, 1);
          continue;
        }
        if (!*entry) {
          break;
        }
        read.push_back(line_of(**entry));
      }
      disk_.clear_faults();
      ASSERT_EQ(read.size(), 16);
      read.resize(6);
      EXPECT_EQ(read, (Lines{"0 a=1", "1 b=1", "2 c=1", "3 a=2", "4 d=1", "5 e=1"}));
      if (disk_.faults_hit() == hits) {
        break;
      }
    }
  }
}

// Goal: a file that is listed, and gone or compacted when it is opened, is looked for again.
TEST_F(CompactedFilesTest, WhatGoesMeanwhileIsLookedForAgain) {
  open();
  segment({"a=1", "b=1", "c=1"});
  segment({"a=2", "b=2"});
  compact();
  segment({"d=1"});
  ASSERT_TRUE(wal_->close());
  const auto expected = lines_of(open());
  ASSERT_TRUE(wal_->close());
  wal_.reset();
  const std::function<std::string()> works[] = {
      [&] {
        const auto opened = open_read_only();
        return opened ? fmt::format("{}", fmt::join(lines_of(opened->wal), ", "))
                      : opened.error().message;
      },
      [&] {
        options_.verification = Verification::all;
        const auto opened = open_read_only();
        options_.verification = Verification::tail;
        return opened ? fmt::format("{}", fmt::join(lines_of(opened->wal), ", "))
                      : opened.error().message;
      },
      [&] {
        const auto report = verify("log", &disk_, nullptr, 1);
        return report
                   ? fmt::format("{} damages, {} records", report->damages.size(), report->records)
                   : report.error().message;
      },
      [&] {
        const auto report = verify("log", &disk_, nullptr, 2);
        return report
                   ? fmt::format("{} damages, {} records", report->damages.size(), report->records)
                   : report.error().message;
      },
      [&] {
        const auto garbage = find_garbage("log", &disk_);
        return garbage ? fmt::format("{} files", garbage->size()) : garbage.error().message;
      },
  };
  for (const auto& work : works) {
    const auto sound = work();
    for (std::uint64_t after = 0;; ++after) {
      const auto hits = disk_.faults_hit();
      for (const int times : {1, 4}) {  // a walker looks four times itself
        for (int i = 0; i < times; ++i) {
          disk_.inject({.operations = On::open,
                        .after = after,
                        .system_errno = ENOENT,
                        .name_suffix = ".wal"});
        }
        EXPECT_EQ(work(), sound) << "work " << &work - works << ", file " << after;
        disk_.clear_faults();
      }
      if (disk_.faults_hit() == hits) {
        break;
      }
    }
  }
}

// --- Damage, and what only a forger writes

TEST_F(CompactedFilesTest, EveryFlippedBitOfACompactedFileIsNoticed) {
  open();
  segment({"a=1", "b=1"});
  segment({"a=2", "c=1"});
  compact();
  ASSERT_TRUE(wal_->close());
  wal_.reset();
  const auto bytes = *disk_.read_file("log/000000-000001.wal");
  const Lines whole{"1 b=1", "2 a=2", "3 c=1"};
  for (std::uint64_t offset = 0; offset < bytes.size(); ++offset) {
    if (bytes[offset] == std::byte{0} && offset % 64 != 0) {
      continue;  // zeros between structures
    }
    const auto disk = disk_.clone();
    ASSERT_TRUE(disk->flip_bit("log/000000-000001.wal", offset, offset % 8));
    auto options = options_;
    options.file_system = disk.get();
    options.mode = OpenMode::read_only;
    options.verification = Verification::all;
    const auto opened = Wal::open(options);
    if (!opened) {
      continue;
    }
    for (const auto& line : lines_of(opened->wal)) {
      EXPECT_TRUE(std::ranges::find(whole, line) != whole.end() ||
                  line.find("damaged") != std::string::npos ||
                  line.find(".wal") != std::string::npos)
          << offset << ": " << line;
    }
  }
}

class ForgedCompactedTest : public CompactedFilesTest {
 protected:
  static constexpr std::string_view kPath = "log/000000-000001.wal";

  struct Frame {
    std::uint64_t offset = 0;
    FrameHeader header;
    std::vector<std::byte> payload;
  };

  // Two segments made one, with what is left of either in a frame of its own, and a third one.
  void make_log() {
    options_.compression = Compression::lz4;
    open();
    segment({"a=1", "b=1", "c=1"});
    open();  // another epoch, so another frame
    segment({"a=2", "d=1"});
    compact();
    segment({"e=1"});
    ASSERT_TRUE(wal_->close());
    wal_.reset();
    bytes_ = *disk_.read_file(kPath);
    header_ = *decode_segment_header(bytes_);
    auto offset = header_.first_offset;
    while (const auto header = decode_frame_header(ByteView(bytes_).subspan(offset),
                                                   place_seed(header_.seed(), offset))) {
      const auto payload =
          ByteView(bytes_).subspan(offset + kFrameHeaderBytes, header->payload_bytes);
      frames_.push_back({offset, *header, {payload.begin(), payload.end()}});
      offset += header->frame_bytes();
    }
    ASSERT_EQ(frames_.size(), 3U) << "two of records, and the rotation";
    ASSERT_EQ(frames_[1].header.kind, FrameKind::compacted);
  }

  // Puts a frame, of as many bytes, in the place of another, its checksums as they should be.
  void put(Frame frame) {
    frame.header.payload_bytes = frame.payload.size();
    frame.header.payload_crc32c = crc32c(0, frame.payload);
    auto bytes = bytes_;
    encode_frame_header(frame.header, place_seed(header_.seed(), frame.offset),
                        &bytes[frame.offset]);
    std::ranges::copy(frame.payload, &bytes[frame.offset + kFrameHeaderBytes]);
    ASSERT_TRUE(disk_.write_file(kPath, bytes));
  }

  // Readers and verify name the place; and compaction and what looks for garbage, which read keys
  // alone, do so where `keys_too`.
  void expect_damaged(std::uint64_t offset, std::string_view reason, const Lines& before,
                      bool keys_too = true) {
    const auto opened = open_read_only();
    ASSERT_TRUE(opened) << opened.error().message;
    auto lines = lines_of(opened->wal);
    ASSERT_FALSE(lines.empty());
    const auto told = lines.back();
    lines.pop_back();
    EXPECT_EQ(lines, before);
    EXPECT_NE(told.find(fmt::format("000000-000001.wal at offset {}", offset)), std::string::npos)
        << told;
    EXPECT_NE(told.find(reason), std::string::npos) << told;
    for (const std::uint32_t threads : {1U, 2U}) {
      const auto report = verify("log", &disk_, nullptr, threads);
      ASSERT_TRUE(report) << report.error().message;
      ASSERT_FALSE(report->damages.empty());
      EXPECT_EQ(report->damages.front().segment_id, 0U);
      EXPECT_EQ(report->damages.front().offset, offset);
    }
    const auto garbage = find_garbage("log", &disk_);
    EXPECT_EQ(garbage.has_value(), !keys_too);
    EXPECT_TRUE(garbage || garbage.error().code == ErrorCode::damaged) << garbage.error().message;
  }

  std::vector<std::byte> bytes_;
  SegmentHeader header_;
  std::vector<Frame> frames_;
};

TEST_F(ForgedCompactedTest, RecordsThatAreNotAsManyAsItSaysAreDamage) {
  make_log();
  auto frame = frames_[1];
  frame.payload[0] = std::byte{3};
  put(frame);
  expect_damaged(frame.offset, "malformed", {"1 b=1", "2 c=1", "3 a=2", "4 d=1"});
}

TEST_F(ForgedCompactedTest, AValueThatCannotBeDecompressedIsDamage) {
  make_log();
  auto frame = frames_[1];
  std::fill(frame.payload.end() - 8, frame.payload.end(), std::byte{0xff});
  put(frame);
  expect_damaged(frame.offset, "the value of record 4 cannot be decompressed",
                 {"1 b=1", "2 c=1", "3 a=2"}, false);
}

TEST_F(ForgedCompactedTest, AFrameThatDoesNotContinueIsDamage) {
  make_log();
  const std::function<void(FrameHeader&)> changes[] = {
      [](FrameHeader& header) { header.kind = FrameKind::records; },
      [](FrameHeader& header) { header.first_sequence += 1; },
      [](FrameHeader& header) { header.epoch = std::uint64_t{1} << 39; },
  };
  for (const auto& change : changes) {
    auto frame = frames_[1];
    change(frame.header);
    put(frame);
    expect_damaged(frame.offset, "", {"1 b=1", "2 c=1"});
  }
}

}  // namespace
}  // namespace nori::gc_tests
