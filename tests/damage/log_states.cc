#include "tests/damage/log_states.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "format/ring_header.h"
#include "nori/consumer.h"
#include "nori/snapshot.h"
#include "nori/wal.h"
#include "segment/segment_name.h"

namespace nori::damage_tests {

using testing::SimulatedDisk;

namespace {

using Bytes = std::vector<std::byte>;
using Alter = std::function<void(SimulatedDisk&)>;

std::string path_of(std::string_view name) { return fmt::format("{}/{}", kDirectory, name); }
std::string path_of(std::uint64_t segment_id) { return path_of(segment_name(segment_id)); }

void put(SimulatedDisk& disk, const std::string& path, ByteView bytes) {
  ASSERT_TRUE(disk.write_file(path, bytes));
}

// Both, one after the other.
Alter both(const Alter& first, const Alter& then) {
  return [=](SimulatedDisk& disk) {
    first(disk);
    then(disk);
  };
}

// Flips a bit in a segment: in its header, its footer, or the header or payload of its last frame
// with records.
Alter flip(std::uint64_t segment_id, std::string_view part) {
  return [=](SimulatedDisk& disk) {
    if (part == "header") {
      ASSERT_TRUE(disk.flip_bit(path_of(segment_id), 40, 3));
      return;
    }
    const auto map = LogMap::of(disk);
    const auto& segment = map.segments.at(segment_id);
    auto frame = map.frames.at(segment.first_frame);
    for (const auto& other : map.frames) {
      if (other.segment_id == segment_id && other.header.kind == FrameKind::records) {
        frame = other;
      }
    }
    const auto offset = part == "footer"  ? segment.frames_end + 8
                        : part == "frame" ? frame.offset + 4
                                          : frame.end() - 1;
    ASSERT_TRUE(disk.flip_bit(path_of(segment_id), offset, 3));
  };
}

Alter remove(std::string_view name) {
  return [=](SimulatedDisk& disk) { ASSERT_TRUE(disk.remove_file(path_of(name))); };
}

// All segments but this one, which gets another name and loses its header if that is to be bad.
Alter leave_only(std::uint64_t segment_id, std::string_view name, bool with_bad_header) {
  return [=](SimulatedDisk& disk) {
    auto bytes = *disk.read_file(path_of(segment_id));
    for (std::uint64_t id = 0; id < 3; ++id) {
      ASSERT_TRUE(disk.remove_file(path_of(id)));
    }
    bytes[40] ^= std::byte{with_bad_header};
    put(disk, path_of(name), bytes);
  };
}

// As if a sector of what was being written had come through, and nothing else.
void tear(SimulatedDisk& disk) {
  disk.power_cut(3, {.survival = testing::Survival::nothing});
  const auto map = LogMap::of(disk);
  const auto& newest = map.segments.back();
  auto bytes = *disk.read_file(path_of(newest.id));
  bytes.resize(std::max<std::size_t>(bytes.size(), newest.frames_end + 4096));
  bytes[newest.frames_end + 100] = std::byte{1};
  put(disk, path_of(newest.id), bytes);
}

void put_into_quarantine(SimulatedDisk& disk) {
  put(disk, path_of("quarantine/000002.wal.0"), Bytes(100));
  put(disk, path_of("quarantine/ring.0"), Bytes(100));
}

// The ring has a frame that leads nowhere behind one that was torn.
void tear_in_the_ring(SimulatedDisk& disk) {
  auto bytes = *disk.read_file(path_of("ring"));
  const auto text = as_text(bytes);
  const auto at = text.find("j10");
  ASSERT_NE(at, std::string_view::npos);
  bytes[at] ^= std::byte{1};
  put(disk, path_of("ring"), bytes);
}

void void_the_rings_marks(SimulatedDisk& disk) {
  auto bytes = *disk.read_file(path_of("ring"));
  std::fill_n(bytes.begin() + kRingMarkOffset, 2 * kRingMarkStride, std::byte{0});
  put(disk, path_of("ring"), bytes);
}

// What a machine that died while it made the first segment may leave.
void cut_creation_short(SimulatedDisk& disk) {
  for (std::uint64_t id = 0; id < 3; ++id) {
    ASSERT_TRUE(disk.remove_file(path_of(id)));
  }
  Bytes bytes(12'000);
  bytes[0] = std::byte{'n'};
  put(disk, path_of(0), bytes);
}

// The next opening's frame was being written when the machine died.
void cut_opening_short(SimulatedDisk& disk) {
  {
    auto opened = Wal::open(options_on(disk));
    ASSERT_TRUE(opened) << opened.error().message;
    ASSERT_TRUE(opened->wal.append(Record::put("l", "12")));
    disk.crash_process();
  }
  remove("ring")(disk);
  const auto map = LogMap::of(disk);
  const auto& opening = map.frames.back();
  ASSERT_EQ(opening.header.kind, FrameKind::opening);
  auto bytes = *disk.read_file(path_of(opening.segment_id));
  bytes.resize(opening.offset + 100);
  put(disk, path_of(opening.segment_id), bytes);
}

// A valid header, and nothing behind it.
void put_header(SimulatedDisk& disk, const SegmentHeader& header) {
  Bytes bytes(2 * 4096);
  encode_segment_header(header, bytes.data());
  put(disk, path_of(header.first_segment), bytes);
}

void put_an_older_segment_behind(SimulatedDisk& disk) {
  auto header = LogMap::of(disk).segments.back().header;
  header.first_segment = header.last_segment = 3;
  header.first_sequence = header.durable_mark = 1;
  put_header(disk, header);
}

void put_a_footer_that_lies(SimulatedDisk& disk) {
  const auto map = LogMap::of(disk);
  const auto& segment = map.segments.front();
  auto summary = *segment.footer;
  ++summary.frames;
  auto bytes = *disk.read_file(path_of(0));
  bytes.resize(summary.end_offset);
  const auto footer = encode_footer(summary, segment.header.seed(), 4096);
  bytes.insert(bytes.end(), as_byte_view(footer).begin(), as_byte_view(footer).end());
  put(disk, path_of(0), bytes);
}

void put_a_newest_that_does_not_continue(SimulatedDisk& disk) {
  auto header = LogMap::of(disk).segments.back().header;
  header.first_sequence += 1;
  put_header(disk, header);
}

// Goes on with frames that no window holds at once, in segments whose footers have indexes; the
// newest are in the ring alone.
void go_on_with_large_values(SimulatedDisk& disk) {
  auto options = options_on(disk);
  options.segment_bytes = 384 * kKiB;
  options.ring_bytes = 128 * kKiB;
  auto opened = Wal::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  for (int i = 0; i < 15; ++i) {
    ASSERT_TRUE(opened->wal.append(Record::put("large", std::string(30'000, '\0'))));
    if (i == 11) {
      ASSERT_TRUE(opened->wal.sync());
    }
  }
  disk.crash_process();
}

// Two more segments, of which the ring still has every frame.
void go_on_for_two_segments(SimulatedDisk& disk) {
  auto opened = Wal::open(options_on(disk));
  ASSERT_TRUE(opened) << opened.error().message;
  for (const auto* const key : {"p", "q", "r"}) {
    ASSERT_TRUE(opened->wal.append(Record::put(key, "")));
    if (*key != 'r') {
      ASSERT_TRUE(opened->wal.rotate());
    }
  }
  disk.crash_process();
}

void put_places(SimulatedDisk& disk) {
  auto opened = Wal::open(options_on(disk));
  ASSERT_TRUE(opened) << opened.error().message;
  auto& wal = opened->wal;
  auto consumer = wal.consumer(kConsumer, {.from = Sequence{5}});
  ASSERT_TRUE(consumer) << consumer.error().message;
  ASSERT_TRUE(consumer->close());
  auto snapshot = SnapshotWriter::begin(wal, {.sequence = 7});
  ASSERT_TRUE(snapshot) << snapshot.error().message;
  ASSERT_TRUE(snapshot->add({.key = "a", .value = "2", .epoch = {}, .sequence = 4}));
  ASSERT_TRUE(snapshot->finish());
  disk.crash_process();
}

// What nobody needs of the first segment.
void compact_the_first(SimulatedDisk& disk) {
  auto opened = Wal::open(options_on(disk));
  ASSERT_TRUE(opened) << opened.error().message;
  auto& wal = opened->wal;
  auto consumer = wal.consumer(kConsumer);
  ASSERT_TRUE(consumer) << consumer.error().message;
  ASSERT_TRUE(consumer->commit(wal.current_position()));
  ASSERT_TRUE(consumer->close());
  const auto report = wal.compact();
  ASSERT_TRUE(report) << report.error().message;
  ASSERT_FALSE(report->files.empty());
  disk.crash_process();
}

void close_again(SimulatedDisk& disk) {
  auto opened = Wal::open(options_on(disk));
  ASSERT_TRUE(opened) << opened.error().message;
  ASSERT_TRUE(opened->wal.append(Record::put("last", "")));
  ASSERT_TRUE(opened->wal.close());
}

// Goes on with a frame that ends `before` bytes before what recovery writes at once does, when it
// writes the segment again from its first frame, and with one that has a value of `then` bytes; in
// the ring alone.
Alter go_on_to(std::uint64_t before, std::optional<std::size_t> then) {
  return [=](SimulatedDisk& disk) {
    constexpr std::uint64_t kWriteBytes = 256 * kKiB;
    auto options = options_on(disk);
    options.segment_bytes = options.ring_bytes = kMiB;
    auto opened = Wal::open(options);
    ASSERT_TRUE(opened) << opened.error().message;
    const auto small = opened->wal.append(Record::put("l", ""));
    ASSERT_TRUE(small) << small.error().message;
    const auto begin = LogMap::of(disk).segments.back().header.first_offset;
    const auto head_bytes = kFrameHeaderBytes + 5 + 1;
    const auto end = begin + kWriteBytes - before;
    const std::string value(end - small->end.offset - head_bytes, 'm');
    const auto large = opened->wal.append(Record::put("m", value));
    ASSERT_TRUE(large) << large.error().message;
    ASSERT_EQ(large->end.offset, end);
    if (then) {
      ASSERT_TRUE(opened->wal.append(Record::put("n", std::string(*then, 'n'))));
    }
    disk.crash_process();
  };
}

}  // namespace

std::unique_ptr<SimulatedDisk> LogState::make() const {
  auto disk = make_small_log(ending);
  alter(*disk);
  return disk;
}

const std::vector<LogState>& log_states() {
  static const std::vector<LogState> states = {
      {.name = "Closed"},
      {.name = "PowerCut", .ending = Ending::power_cut},
      {.name = "ProcessDied", .ending = Ending::process_died},
      {.name = "Torn", .ending = Ending::process_died, .alter = tear},
      {.name = "TornAgain",
       .ending = Ending::process_died,
       .alter = both(tear, put_into_quarantine)},
      {.name = "PayloadInTheFirst", .alter = flip(0, "payload")},
      {.name = "FrameInTheMiddle", .alter = flip(1, "frame")},
      {.name = "FrameInTheMiddleKilled", .ending = Ending::process_died, .alter = flip(1, "frame")},
      {.name = "FrameInTheNewest", .alter = flip(2, "frame")},
      {.name = "FrameInTheNewestKilled",
       .ending = Ending::process_died,
       .alter = both(flip(2, "frame"), put_into_quarantine)},
      {.name = "PayloadInTheNewestCut", .ending = Ending::power_cut, .alter = flip(2, "payload")},
      {.name = "HeaderOfTheMiddle", .alter = flip(1, "header")},
      {.name = "HeaderOfTheNewest", .alter = flip(2, "header")},
      {.name = "HeaderOfTheNewestKilled",
       .ending = Ending::process_died,
       .alter = flip(2, "header")},
      {.name = "HeadersOfTwo", .alter = both(flip(1, "header"), flip(2, "header"))},
      {.name = "HeaderBeforeAnOlderOne",
       .alter = both(put_an_older_segment_behind, flip(2, "header"))},
      {.name = "HeaderOfOneInTheRing", .alter = both(go_on_for_two_segments, flip(3, "header"))},
      {.name = "FooterOfTheFirst", .alter = flip(0, "footer")},
      {.name = "FooterThatLies", .alter = put_a_footer_that_lies},
      {.name = "FooterOfTheMiddle", .ending = Ending::power_cut, .alter = flip(1, "footer")},
      {.name = "MiddleMissing", .alter = remove("000001.wal")},
      {.name = "NewestMissing", .ending = Ending::power_cut, .alter = remove("000002.wal")},
      {.name = "NewestDoesNotContinue", .alter = put_a_newest_that_does_not_continue},
      {.name = "CreationCutShort", .alter = cut_creation_short},
      {.name = "OpeningCutShort", .alter = cut_opening_short},
      {.name = "OnlyTheMiddleBad", .alter = leave_only(1, "000001.wal", true)},
      {.name = "OnlyTheMiddleAsTheFirst", .alter = leave_only(1, "000000.wal", false)},
      {.name = "OnlyAnotherName", .alter = leave_only(0, "copy.wal", false)},
  };
  return states;
}

const std::vector<LogState>& states_with_places() {
  static const std::vector<LogState> states = {
      {.name = "Places", .alter = put_places},
      {.name = "PlacesKilled", .ending = Ending::process_died, .alter = put_places},
      {.name = "PlacesAhead", .alter = both(put_places, leave_only(0, "000000.wal", false))},
      {.name = "PlacesTorn", .ending = Ending::process_died, .alter = both(put_places, tear)},
      {.name = "Compacted", .alter = both(put_places, compact_the_first)},
  };
  return states;
}

const std::vector<LogState>& more_log_states() {
  static const std::vector<LogState> states = {
      {.name = "TornInTheRing",
       .ending = Ending::process_died,
       .alter = both(tear_in_the_ring, put_into_quarantine)},
      {.name = "RingWithoutMarks", .ending = Ending::process_died, .alter = void_the_rings_marks},
      {.name = "OlderOneBehind",
       .ending = Ending::process_died,
       .alter = put_an_older_segment_behind},
      {.name = "LargeKilled", .alter = go_on_with_large_values},
      {.name = "LargeClosed", .alter = both(go_on_with_large_values, close_again)},
      {.name = "LargeDamaged",
       .alter = both(both(go_on_with_large_values, close_again), flip(3, "frame"))},
  };
  return states;
}

const std::vector<LogState>& states_to_write_again() {
  static const std::vector<LogState> states = {
      {.name = "HeaderOnBothSides", .alter = go_on_to(20, 0)},
      {.name = "PayloadOnBothSides", .alter = go_on_to(1000, 2000)},
      {.name = "PaddingOnBothSides", .alter = go_on_to(20, std::nullopt)},
      {.name = "PaddingToTheEnd", .alter = go_on_to(100, std::nullopt)},
  };
  return states;
}

}  // namespace nori::damage_tests
