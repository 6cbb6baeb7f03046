#include "tests/damage/small_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "segment/segment_name.h"
#include "testing/recovered_log.h"

namespace nori::damage_tests {

using testing::SimulatedDisk;

namespace {

std::string path_of(std::string_view name) {
  return std::string(kDirectory) + "/" + std::string(name);
}

template <typename T>
void expect_ok(const Result<T>& result) {
  EXPECT_TRUE(result.has_value()) << result.error().message;
}

}  // namespace

WalOptions options_on(SimulatedDisk& disk, OpenMode mode, Verification verification) {
  auto options = testing::small_options();
  options.mode = mode;
  options.verification = verification;
  options.fsync = FsyncPolicy::os();
  options.file_system = &disk;
  return options;
}

std::unique_ptr<SimulatedDisk> make_small_log(Ending ending, std::uint64_t seed) {
  auto disk = std::make_unique<SimulatedDisk>(seed);
  {
    auto opened = Wal::open(options_on(*disk));
    expect_ok(opened);
    auto& wal = opened->wal;
    Batch batch;
    batch.put("a", "1");
    batch.put("b", "");
    batch.remove("c");
    expect_ok(wal.append(batch));
    expect_ok(wal.append(Record::put("", "no key")));
    expect_ok(wal.sync());
    disk->advance_ms(7);
    expect_ok(wal.append(Record::put("a", "2")));
    expect_ok(wal.append(Record::remove("a")));
    expect_ok(wal.rotate());
    expect_ok(wal.append(Record::put("d", "4", TimePoint{std::chrono::milliseconds{123456789}})));
    expect_ok(wal.sync());
    expect_ok(wal.append(batch));
    expect_ok(wal.close());
  }
  disk->advance_ms(7);
  auto opened = Wal::open(options_on(*disk));
  expect_ok(opened);
  auto& wal = opened->wal;
  expect_ok(wal.append(Record::put("e", "5")));
  expect_ok(wal.append(Record::put("f", "6")));
  expect_ok(wal.rotate());
  expect_ok(wal.append(Record::put("g", "7")));
  expect_ok(wal.sync());
  disk->advance_ms(7);
  expect_ok(wal.append(Record::put("h", "8")));
  expect_ok(wal.append(Record::put("i", "9")));
  expect_ok(wal.sync());
  switch (ending) {
    case Ending::closed:
      expect_ok(wal.close());
      break;
    case Ending::power_cut:
      disk->power_cut(seed, {.survival = testing::Survival::nothing});
      break;
    case Ending::process_died:
      expect_ok(wal.append(Record::put("j", "10")));
      expect_ok(wal.append(Record::put("k", "11")));
      disk->crash_process();
      break;
  }
  return disk;
}

bool same(const OwnedEntry& a, const OwnedEntry& b) {
  return a.sequence == b.sequence && a.epoch == b.epoch && a.time == b.time && a.op == b.op &&
         a.key == b.key && a.value == b.value && a.expires_at == b.expires_at &&
         a.ends_batch == b.ends_batch && a.position.segment_id == b.position.segment_id &&
         a.position.offset == b.position.offset;
}

bool same(const Records& a, const Records& b) { return a.size() == b.size() && is_prefix(a, b); }

bool is_prefix(const Records& shorter, const Records& longer) {
  return shorter.size() <= longer.size() &&
         std::equal(shorter.begin(), shorter.end(), longer.begin(),
                    [](const OwnedEntry& a, const OwnedEntry& b) { return same(a, b); });
}

Reading read_small_log(SimulatedDisk& disk, Verification verification, bool skip_damaged) {
  Reading reading;
  auto opened = Wal::open(options_on(disk, OpenMode::read_only, verification));
  if (!opened) {
    reading.error = opened.error();
    return reading;
  }
  reading.recovery = opened->recovery;
  auto reader = opened->wal.read_from(begin_of_log, {.skip_damaged = skip_damaged});
  if (!reader) {
    reading.error = reader.error();
    return reading;
  }
  for (int errors = 0; errors < 10;) {
    auto entry = reader->next();
    if (!entry) {
      ++errors;
      if (!reading.error) {
        reading.error = entry.error();
      }
      if (skip_damaged) {
        continue;
      }
      break;
    }
    if (!*entry) {
      break;
    }
    if (!reading.error) {
      reading.records.push_back((*entry)->copy());
    }
    reading.records_skipping.push_back((*entry)->copy());
  }
  return reading;
}

Files files_of(const SimulatedDisk& disk) {
  Files files;
  const auto names = disk.list_files(kDirectory);
  for (const auto& name : names ? *names : std::vector<std::string>{}) {
    if (name == kLockName) {
      continue;
    }
    if (name.ends_with('/')) {
      files[name] = {};
      const auto inner = disk.list_files(path_of(name));
      for (const auto& of : inner ? *inner : std::vector<std::string>{}) {
        files[name + of] = *disk.read_file(path_of(name + of));
      }
    } else {
      files[name] = *disk.read_file(path_of(name));
    }
  }
  return files;
}

LogMap LogMap::of(const SimulatedDisk& disk) {
  LogMap map;
  for (std::uint64_t id = 0;; ++id) {
    const auto bytes = disk.read_file(path_of(segment_name(id)));
    if (!bytes) {
      break;
    }
    const ByteView file(*bytes);
    const auto header = decode_segment_header(file);
    EXPECT_TRUE(header.has_value());
    Segment segment{.id = id, .header = *header, .file_bytes = file.size(), .footer = {}};
    segment.first_frame = map.frames.size();
    auto offset = header->first_offset;
    while (offset + kFrameHeaderBytes <= file.size()) {
      const auto frame =
          decode_frame_header(file.subspan(offset), place_seed(header->seed(), offset));
      if (!frame) {
        break;
      }
      map.frames.push_back({.segment_id = id, .offset = offset, .header = *frame});
      offset = map.frames.back().end();
    }
    segment.frames_end = offset;
    if (const auto footer_bytes = decode_footer_bytes(file.last(kFooterTrailerBytes))) {
      segment.footer = decode_footer(file.last(*footer_bytes), header->seed(), offset);
    }
    map.segments.push_back(std::move(segment));
  }
  return map;
}

std::optional<std::size_t> LogMap::frame_at(std::uint64_t segment_id, std::uint64_t offset) const {
  for (std::size_t i = 0; i < frames.size(); ++i) {
    if (frames[i].segment_id == segment_id && frames[i].offset <= offset &&
        offset < frames[i].end()) {
      return i;
    }
  }
  return std::nullopt;
}

Expectation expect_of(const LogMap& map, const Alteration& alteration) {
  const auto& segment = map.segments[alteration.segment_id];
  const auto first_bad =
      alteration.header ? segment.first_frame : alteration.frame.value_or(map.frames.size());
  Expectation expected;
  if (first_bad == map.frames.size()) {
    expected.records = map.next_sequence();
    return expected;
  }
  const auto& bad = map.frames[first_bad];
  const auto next = bad.header.first_sequence;
  const auto epoch = first_bad == 0 ? 0 : map.frames[first_bad - 1].header.epoch;
  expected.records = next;
  expected.segment_id = bad.segment_id;
  expected.offset = bad.offset;
  const auto says = [&](Sequence mark, std::uint64_t of_epoch) {
    // E1 and E2 of docs/recovery.md#evidence.
    expected.damaged = expected.damaged || mark > next || (of_epoch >> 40) > (epoch >> 40);
  };
  for (std::size_t i = 0; i < map.frames.size(); ++i) {
    const auto& frame = map.frames[i];
    const bool is_void = frame.segment_id == alteration.segment_id &&
                         ((i == first_bad && (alteration.frame_header || alteration.all_behind)) ||
                          (i > first_bad && alteration.all_behind));
    if (!is_void) {
      says(frame.header.durable_mark, frame.header.epoch);
    }
  }
  for (const auto& other : map.segments) {
    if (!(other.id == alteration.segment_id && alteration.header)) {
      says(other.header.durable_mark, other.header.epoch);
    }
    if (other.id > alteration.segment_id && other.footer) {
      says(other.footer->durable_mark, other.footer->epoch);
    }
  }
  // E4; and without a predecessor there is nothing that leads to the first segment.
  if (alteration.header) {
    expected.damaged = expected.damaged || alteration.segment_id == 0 ||
                       map.segments[alteration.segment_id - 1].footer.has_value();
  }
  return expected;
}

}  // namespace nori::damage_tests
