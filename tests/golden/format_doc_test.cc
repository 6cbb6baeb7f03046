// Goal: the worked example in docs/format.md is true, to the byte.
// Method: it is read back: every value it states is compared with the bytes beside it, then with
// what the library makes of the whole; and the file it describes is opened as a log.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "format/frame.h"
#include "format/record.h"
#include "format/segment_footer.h"
#include "format/segment_header.h"
#include "format/snapshot_block.h"
#include "format/snapshot_header.h"
#include "format/snapshot_index.h"
#include "nori/snapshot.h"
#include "nori/wal.h"
#include "testing/simulated_disk.h"
#include "tests/golden/hex_text.h"

namespace nori::golden {
namespace {

/// One line of the example.
struct Line {
  std::uint64_t offset = 0;
  std::string bytes;
  std::string field;  ///< "section.field"
  std::string value;  ///< A number, a text in quotes, or nothing.
};

std::string_view trimmed(std::string_view text) {
  const auto from = std::min(text.find_first_not_of(' '), text.size());
  return text.substr(from, text.find_last_not_of(' ') + 1 - from);
}

/// What stands before the next two spaces in a row, and takes it off.
std::string_view take_column(std::string_view& line) {
  line = trimmed(line);
  const auto column = line.substr(0, line.find("  "));
  line.remove_prefix(column.size());
  return column;
}

std::optional<std::uint64_t> number(std::string_view text) {
  const int base = text.starts_with("0x") ? 16 : 10;
  text.remove_prefix(base == 16 ? 2 : 0);
  std::uint64_t value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return fault == std::errc{} && end == text.data() + text.size() ? std::optional(value)
                                                                  : std::nullopt;
}

std::uint64_t little_endian(std::string_view bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) {
    value = value << 8 | static_cast<unsigned char>(bytes[i]);
  }
  return value;
}

/// The example: its lines, and the file they describe.
class FormatDocTest : public ::testing::Test {
 protected:
  void SetUp() override { read_example("{#example}"); }

  /// The first one behind those words.
  void read_example(std::string_view behind) {
    const auto text = read_source_file("docs/format.md");
    constexpr std::string_view kBegin = "\n```hex\n";
    const auto section = text.find(behind);
    ASSERT_NE(section, std::string::npos) << "docs/format.md has no " << behind;
    const auto begin = text.find(kBegin, section);
    ASSERT_NE(begin, std::string::npos) << "docs/format.md has no example";
    const auto end = text.find("```", begin + kBegin.size());
    ASSERT_NE(end, std::string::npos);
    parse(std::string_view(text).substr(begin + kBegin.size(), end - begin - kBegin.size()));
  }

  void read_example_again(std::string_view behind) {
    file_.clear();
    fields_.clear();
    lines_.clear();
    read_example(behind);
  }

  void parse(std::string_view text) {
    std::string section;
    while (!text.empty()) {
      auto line = text.substr(0, text.find('\n'));
      text.remove_prefix(std::min(line.size() + 1, text.size()));
      if (line.starts_with("# ")) {
        section = line.substr(2);
        continue;
      }
      const auto offset = number(fmt::format("0x{}", take_column(line)));
      ASSERT_TRUE(offset) << line;
      ASSERT_GE(*offset, file_.size()) << "lines overlap";
      file_.resize(*offset, '\0');
      if (trimmed(line).empty()) {
        continue;  // the file's end
      }
      Line parsed{.offset = *offset, .bytes = {}, .field = {}, .value = {}};
      const auto bytes = from_hex(take_column(line));
      ASSERT_TRUE(bytes) << line;
      parsed.bytes = *bytes;
      file_ += *bytes;
      parsed.field = fmt::format("{}.{}", section, take_column(line));
      parsed.value = trimmed(line);
      ASSERT_TRUE(fields_.emplace(parsed.field, parsed).second) << parsed.field << " stands twice";
      lines_.push_back(parsed);
    }
  }

  /// The value that the example states.
  [[nodiscard]] std::uint64_t stated(const std::string& field) {
    const auto at = fields_.find(field);
    EXPECT_NE(at, fields_.end()) << field;
    if (at == fields_.end()) {
      return 0;
    }
    seen_.push_back(field);
    return number(at->second.value).value_or(0);
  }
  [[nodiscard]] std::string stated_text(const std::string& field) {
    const auto at = fields_.find(field);
    EXPECT_NE(at, fields_.end()) << field;
    if (at == fields_.end()) {
      return {};
    }
    seen_.push_back(field);
    return at->second.bytes;
  }
  [[nodiscard]] std::uint64_t offset_of(const std::string& field) const {
    const auto at = fields_.find(field);
    return at == fields_.end() ? 0 : at->second.offset;
  }
  void saw(const std::string& field) { seen_.push_back(field); }

  [[nodiscard]] ByteView file_from(std::uint64_t offset) const {
    return as_byte_view(file_).subspan(offset);
  }

  /// Decodes the frame of a section and compares its header. Returns its payload.
  ByteView check_frame(const std::string& section, FrameKind kind, const SegmentHeader& segment) {
    const auto field = [&](std::string_view name) { return fmt::format("{}.{}", section, name); };
    const auto offset = offset_of(field("header_crc32c"));
    const auto header = decode_frame_header(file_from(offset), place_seed(segment.seed(), offset));
    EXPECT_TRUE(header) << section;
    if (!header) {
      return {};
    }
    EXPECT_EQ(header->kind, kind) << section;
    EXPECT_EQ(header->payload_bytes, stated(field("payload_bytes")));
    EXPECT_EQ(static_cast<std::uint32_t>(header->kind) << 28 | header->record_count,
              stated(field("kind_and_count")));
    EXPECT_EQ(header->first_sequence, stated(field("first_sequence")));
    EXPECT_EQ(header->epoch, stated(field("epoch")));
    EXPECT_EQ(header->time_ms, stated(field("time_ms")));
    EXPECT_EQ(header->first_sequence - header->durable_mark, stated(field("mark_distance")));
    const auto payload = file_from(offset).subspan(kFrameHeaderBytes).first(header->payload_bytes);
    EXPECT_TRUE(payload_matches(*header, payload)) << section;
    EXPECT_TRUE(chain_.continued_by(*header, payload)) << section;
    chain_.advance(*header);
    EXPECT_EQ(offset, next_offset_) << section << " does not stand behind the frame before it";
    next_offset_ = offset + header->frame_bytes();
    saw(field("header_crc32c"));
    saw(field("payload_crc32c"));
    return payload;
  }

  /// Compares every value with the bytes beside it.
  void check_values() const;

  void check_record(const std::string& section, Operation op, ByteView& payload) {
    const auto field = [&](std::string_view name) { return fmt::format("{}.{}", section, name); };
    const auto stored = decode_record(payload);
    ASSERT_TRUE(stored) << section;
    const auto* const record = &stored->record;
    EXPECT_EQ(record->op, op);
    EXPECT_EQ(record->key, stated_text(field("key")));
    EXPECT_EQ(record->key.size(), stated(field("key_bytes")));
    if (op == Operation::put) {
      EXPECT_EQ(record->value, stated_text(field("value")));
      EXPECT_EQ(record->value.size(), stated(field("value_bytes")));
    }
    const auto flags = static_cast<std::uint64_t>(op) | (record->expires_at ? 4U : 0U);
    EXPECT_EQ(flags, stated(field("flags")));
    if (record->expires_at) {
      EXPECT_EQ(*record->expires_at,
                TimePoint{std::chrono::milliseconds{stated(field("expires_at"))}});
    }
  }

  std::string file_;
  std::vector<Line> lines_;
  std::map<std::string, Line> fields_;
  std::vector<std::string> seen_;
  FrameChain chain_;
  std::uint64_t next_offset_ = 0;
};

TEST_F(FormatDocTest, EveryValueIsThatOfItsBytes) { check_values(); }

void FormatDocTest::check_values() const {
  for (const auto& line : lines_) {
    if (line.value.starts_with('"')) {
      auto text = line.value.substr(1, line.value.size() - 2);
      if (const auto escape = text.find("\\n"); escape != std::string::npos) {
        text.replace(escape, 2, "\n");
      }
      EXPECT_EQ(line.bytes, text) << line.field;
    } else if (!line.value.empty()) {
      const auto value = number(line.value);
      ASSERT_TRUE(value) << line.field << ": " << line.value;
      EXPECT_EQ(little_endian(line.bytes), *value) << line.field;
    }
  }
}

TEST_F(FormatDocTest, TheLibraryReadsEveryFieldAsStated) {
  const auto segment = decode_segment_header(as_byte_view(file_));
  ASSERT_TRUE(segment);
  for (const auto* checked_by_decoding : {"magic", "version", "crc32c"}) {
    saw(fmt::format("segment header.{}", checked_by_decoding));
  }
  EXPECT_EQ(segment->generation, stated("segment header.generation"));
  EXPECT_EQ(as_text(segment->log_id.bytes), stated_text("segment header.log_id"));
  EXPECT_EQ(segment->first_segment, stated("segment header.first_segment"));
  EXPECT_EQ(segment->last_segment, stated("segment header.last_segment"));
  EXPECT_EQ(segment->first_sequence, stated("segment header.first_sequence"));
  EXPECT_EQ(segment->epoch, stated("segment header.epoch"));
  EXPECT_EQ(segment->durable_mark, stated("segment header.durable_mark"));
  EXPECT_EQ(segment->created_ms, stated("segment header.created_ms"));
  EXPECT_EQ(segment->first_offset, stated("segment header.first_offset"));
  EXPECT_EQ(segment->ring_base, stated("segment header.ring_base"));

  next_offset_ = segment->first_offset;
  const auto opening = decode_opening(check_frame("opening frame", FrameKind::opening, *segment));
  ASSERT_TRUE(opening);
  EXPECT_EQ(opening->previous_epoch, stated("opening frame.previous_epoch"));

  auto records = check_frame("records frame", FrameKind::records, *segment);
  check_record("put", Operation::put, records);
  check_record("put that expires", Operation::put, records);
  check_record("tombstone", Operation::remove, records);
  EXPECT_TRUE(records.empty());

  const auto padding = check_frame("padding frame", FrameKind::padding, *segment);
  EXPECT_TRUE(std::ranges::all_of(padding, [](std::byte b) { return b == std::byte{0}; }));

  const auto summary = decode_summary(check_frame("close frame", FrameKind::close, *segment));
  ASSERT_TRUE(summary);
  EXPECT_EQ(summary->frames, stated("summary.frames"));
  EXPECT_EQ(summary->records, stated("summary.records"));
  EXPECT_EQ(summary->padding_bytes, stated("summary.padding_bytes"));
  EXPECT_EQ(summary->first_sequence, stated("summary.first_sequence"));
  EXPECT_EQ(summary->end_sequence, stated("summary.end_sequence"));
  EXPECT_EQ(summary->first_time_ms, stated("summary.first_time_ms"));
  EXPECT_EQ(summary->last_time_ms, stated("summary.last_time_ms"));
  EXPECT_EQ(summary->epoch, stated("summary.epoch"));
  EXPECT_EQ(summary->durable_mark, stated("summary.durable_mark"));
  EXPECT_EQ(summary->end_offset, stated("summary.end_offset"));
  EXPECT_EQ(summary->index.size(), stated("summary.index_entries"));
  EXPECT_EQ(next_offset_, file_.size()) << "the close frame is not the file's last block";

  std::ranges::sort(seen_);
  for (const auto& line : lines_) {
    EXPECT_TRUE(std::ranges::binary_search(seen_, line.field)) << line.field << " is not compared";
  }
}

TEST_F(FormatDocTest, TheFileIsALogThatWasClosed) {
  testing::SimulatedDisk disk(1);
  ASSERT_TRUE(disk.write_file("log/000000.wal", as_byte_view(file_)));
  WalOptions options;
  options.directory = "log";
  options.mode = OpenMode::read_only;
  options.file_system = &disk;
  const auto opened = Wal::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_TRUE(opened->recovery.closed_cleanly);
  EXPECT_EQ(opened->recovery.next_sequence, 3U);

  auto reader = opened->wal.read_from(begin_of_log);
  ASSERT_TRUE(reader) << reader.error().message;
  std::vector<std::string> read;
  for (const auto& entry : *reader) {
    ASSERT_TRUE(entry) << entry.error().message;
    EXPECT_EQ(entry->epoch.bits, stated("records frame.epoch"));
    EXPECT_EQ(entry->position.offset, offset_of("records frame.header_crc32c"));
    read.push_back(fmt::format("{}{}={}", entry->op == Operation::put ? "" : "remove ", entry->key,
                               entry->value));
  }
  EXPECT_EQ(read, (std::vector<std::string>{"greeting=hello", "token=x7", "remove greeting="}));
}

/// The worked example of a snapshot.
class SnapshotDocTest : public FormatDocTest {
 protected:
  void SetUp() override { read_example("{#snapshot-example}"); }

  void check_entry(const std::string& section, const SnapshotEntry& entry) {
    const auto field = [&](std::string_view name) { return fmt::format("{}.{}", section, name); };
    EXPECT_EQ(entry.key, stated_text(field("key")));
    EXPECT_EQ(entry.value, stated_text(field("value")));
    EXPECT_EQ(entry.key.size(), stated(field("key_bytes")));
    EXPECT_EQ(entry.value.size(), stated(field("value_bytes")));
    EXPECT_EQ(entry.sequence, stated(field("sequence")));
    const bool has_epoch = fields_.contains(field("epoch"));
    EXPECT_EQ((entry.expires_at ? 1U : 0U) | (has_epoch ? 2U : 0U), stated(field("flags")));
    if (has_epoch) {
      EXPECT_EQ(entry.epoch.bits, stated(field("epoch")));
    }
    if (entry.expires_at) {
      EXPECT_EQ(*entry.expires_at,
                TimePoint{std::chrono::milliseconds{stated(field("expires_at"))}});
    }
  }
};

TEST_F(SnapshotDocTest, EveryValueIsThatOfItsBytes) { check_values(); }

TEST_F(SnapshotDocTest, TheLibraryReadsEveryFieldAsStated) {
  const auto header = decode_snapshot_header(as_byte_view(file_));
  ASSERT_TRUE(header);
  for (const auto* checked_by_decoding :
       {"snapshot header.magic", "snapshot header.version", "snapshot header.crc32c",
        "block.crc32c", "block.compression", "index.crc32c", "snapshot footer.magic",
        "snapshot footer.crc32c"}) {
    saw(checked_by_decoding);
  }
  EXPECT_EQ(as_text(header->log_id.bytes), stated_text("snapshot header.log_id"));
  EXPECT_EQ(header->sequence, stated("snapshot header.sequence"));
  EXPECT_EQ(header->epoch, stated("snapshot header.epoch"));
  EXPECT_EQ(header->created_ms, stated("snapshot header.created_ms"));

  const auto footer_offset = offset_of("snapshot footer.magic");
  EXPECT_EQ(file_.size(), footer_offset + kSnapshotFooterBytes);
  const auto footer =
      decode_snapshot_footer(file_from(footer_offset), header->seed(), footer_offset);
  ASSERT_TRUE(footer);
  EXPECT_EQ(footer->index_offset, stated("snapshot footer.index_offset"));
  EXPECT_EQ(footer->index_bytes, stated("snapshot footer.index_bytes"));
  EXPECT_EQ(footer->blocks, stated("snapshot footer.blocks"));
  EXPECT_EQ(footer->entries, stated("snapshot footer.entries"));
  EXPECT_EQ(footer->plain_bytes, stated("snapshot footer.plain_bytes"));

  const auto index_bytes = file_from(footer->index_offset).first(footer->index_bytes);
  const auto index =
      SnapshotIndex::decode({index_bytes.begin(), index_bytes.end()}, *footer, header->seed());
  ASSERT_TRUE(index);
  ASSERT_EQ(index->blocks(), 1U);
  EXPECT_EQ(index->block(0).bytes, stated("index.block_bytes"));
  EXPECT_EQ(index->separator(0).size(), stated("index.separator_bytes"));

  const auto place = index->block(0);
  SnapshotBlock block;
  ASSERT_TRUE(block.open(file_from(place.offset).first(place.bytes), header->seed(), place.offset,
                         header->sequence));
  EXPECT_EQ(block.entries(), stated("block.entries"));
  EXPECT_EQ(block.plain_bytes(), stated("block.plain_bytes"));
  SnapshotEntry entry;
  ASSERT_EQ(block.next(entry), SnapshotBlock::Step::entry);
  check_entry("entry", entry);
  ASSERT_EQ(block.next(entry), SnapshotBlock::Step::entry);
  check_entry("entry that expires", entry);
  EXPECT_EQ(block.next(entry), SnapshotBlock::Step::end);

  std::ranges::sort(seen_);
  for (const auto& line : lines_) {
    EXPECT_TRUE(std::ranges::binary_search(seen_, line.field)) << line.field << " is not compared";
  }
}

TEST_F(SnapshotDocTest, TheFileIsASnapshotOfTheLog) {
  testing::SimulatedDisk disk(1);
  ASSERT_TRUE(disk.write_file("log/snapshots/00000000000000000002.snapshot", as_byte_view(file_)));
  read_example_again("{#example}");
  ASSERT_TRUE(disk.write_file("log/000000.wal", as_byte_view(file_)));
  auto opened = SnapshotReader::open("log", {.verify = true, .file_system = &disk});
  ASSERT_TRUE(opened) << opened.error().message;
  ASSERT_TRUE(opened->reader) << opened->skipped.front().reason;
  EXPECT_EQ((*opened->reader->next())->key, "greeting");
  EXPECT_EQ((*opened->reader->next())->key, "token");
  EXPECT_FALSE(opened->reader->next()->has_value());
}

}  // namespace
}  // namespace nori::golden
