// Snapshots as files of a directory, on the simulated disk. What crashes make of them:
// tests/crash/snapshot_test.cc.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "base/little_endian.h"
#include "nori/snapshot.h"
#include "segment/segment_files.h"
#include "snapshot/snapshot_file_writer.h"
#include "snapshot/snapshot_files.h"
#include "snapshot/snapshot_reader.h"
#include "testing/random.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using testing::Fault;
using testing::Operation;
using testing::Repeat;
using testing::SimulatedDisk;

LogId id_of(int log) {
  LogId id;
  id.bytes.fill(static_cast<std::byte>(log));
  return id;
}

struct Owned {
  std::string value;
  Epoch epoch;
  Sequence sequence = 0;
  std::optional<TimePoint> expires_at;
  friend bool operator==(const Owned&, const Owned&) = default;
};
using Contents = std::map<std::string, Owned>;

Owned owned(const SnapshotEntry& entry) {
  return {std::string(entry.value), entry.epoch, entry.sequence, entry.expires_at};
}

// So many entries, with everything that an entry can have.
Contents numbered(std::uint64_t count, std::uint64_t seed = 1, std::uint64_t value_bytes = 20) {
  testing::Random random(seed);
  Contents contents;
  for (std::uint64_t i = 0; i < count; ++i) {
    Owned entry;
    entry.value = fmt::format("{:0{}}", random.next(), random.below(value_bytes + 1));
    entry.sequence = random.below(10);
    entry.epoch.bits = 7 + random.below(2);
    if (random.coin()) {
      entry.expires_at = TimePoint(std::chrono::milliseconds(random.below(1'000'000)));
    }
    contents[fmt::format("key-{:06}", i * 3)] = entry;
  }
  return contents;
}

// Adds all of it and finishes, up to the first error.
Result<SnapshotWritten> finish_with(Result<std::unique_ptr<SnapshotFileWriter>> writer,
                                    const Contents& contents) {
  if (!writer) {
    return std::unexpected(std::move(writer).error());
  }
  for (const auto& [key, entry] : contents) {
    if (auto added = (*writer)->add({.key = key,
                                     .value = entry.value,
                                     .epoch = entry.epoch,
                                     .sequence = entry.sequence,
                                     .expires_at = entry.expires_at});
        !added) {
      return std::unexpected(std::move(added).error());
    }
  }
  return (*writer)->finish();
}

class SnapshotTest : public ::testing::Test {
 protected:
  SnapshotTest() { make_log(1); }

  // A log of one segment, so that there is something to compare a snapshot's log id with.
  void make_log(int id) {
    const auto directory = disk_.open_directory("log", true);
    SegmentHeader header;
    header.log_id = id_of(id);
    header.first_offset = 4096;
    ASSERT_TRUE(create_segment(**directory, header, {}));
  }

  std::unique_ptr<io::Directory> directory() { return *disk_.open_directory("log", false); }

  Result<std::unique_ptr<SnapshotFileWriter>> begin(Sequence sequence,
                                                    const SnapshotOptions& options = {},
                                                    int log = 1) {
    return SnapshotFileWriter::begin(
        *directory(),
        SnapshotHeader{
            .log_id = id_of(log), .sequence = sequence, .epoch = 8, .created_ms = 1'000'000},
        options);
  }

  Result<SnapshotWritten> write(Sequence sequence, const Contents& contents,
                                const SnapshotOptions& options = {}, int log = 1) {
    return finish_with(begin(sequence, options, log), contents);
  }

  OpenedSnapshot open(SnapshotReadOptions options = {}) {
    options.file_system = &disk_;
    auto opened = SnapshotReader::open("log", options);
    EXPECT_TRUE(opened) << opened.error().message;
    return opened ? *std::move(opened) : OpenedSnapshot{};
  }

  static Result<Contents> all_of(SnapshotReader& reader) {
    Contents contents;
    while (true) {
      auto entry = reader.next();
      if (!entry) {
        return std::unexpected(entry.error());
      }
      if (!*entry) {
        return contents;
      }
      EXPECT_TRUE(contents.emplace((*entry)->key, owned(**entry)).second);
    }
  }

  Contents read(const SnapshotReadOptions& options = {}) {
    auto opened = open(options);
    if (!opened.reader) {
      ADD_FAILURE() << "there is no snapshot";
      return {};
    }
    auto contents = all_of(*opened.reader);
    EXPECT_TRUE(contents) << contents.error().message;
    return contents.value_or(Contents{});
  }

  std::vector<std::string> files() { return disk_.list_files("log/snapshots").value(); }

  static std::string path_of(Sequence sequence) {
    return "log/snapshots/" + snapshot_name(sequence);
  }

  SimulatedDisk disk_{1};
};

TEST_F(SnapshotTest, IsReadAsWritten) {
  for (const auto compression : {Compression::none, Compression::lz4, Compression::zstd}) {
    for (const std::uint64_t count : {0, 1, 2, 100, 5000}) {
      const auto contents = numbered(count, count);
      const auto written =
          write(1000, contents, {.compression = compression, .block_bytes = 4 * kKiB});
      ASSERT_TRUE(written) << written.error().message;
      EXPECT_EQ(written->file.entries, count);
      EXPECT_EQ(written->file.epoch, Epoch{8});
      EXPECT_EQ(written->file.bytes, disk_.read_file(path_of(1000))->size());
      EXPECT_EQ(read({.verify = true}), contents);
    }
  }
}

TEST_F(SnapshotTest, KeysAndValuesMayBeEmptyOrLarge) {
  Contents contents;
  const std::string large(kMiB, 'k');
  contents[""] = {.value = "of the empty key", .epoch = {}, .sequence = 1, .expires_at = {}};
  contents["a"] = {.value = "", .epoch = {}, .sequence = 2, .expires_at = {}};
  contents["b"] = {.value = large, .epoch = {}, .sequence = 3, .expires_at = {}};
  contents[large] = {.value = large, .epoch = {}, .sequence = 4, .expires_at = {}};
  contents[large + "l"] = {.value = "", .epoch = {}, .sequence = 5, .expires_at = {}};
  contents["m"] = {
      .value = std::string(20 * kMiB, 'v'), .epoch = {}, .sequence = 6, .expires_at = {}};
  ASSERT_TRUE(write(10, contents));
  EXPECT_EQ(read({.verify = true}), contents);
  auto opened = open();
  for (const auto& [key, entry] : contents) {
    const auto found = opened.reader->get(key);
    ASSERT_TRUE(found && *found);
    EXPECT_EQ(owned(**found), entry);
  }
}

TEST_F(SnapshotTest, AKeyIsFoundOrNot) {
  const auto contents = numbered(3000);
  ASSERT_TRUE(write(1000, contents, {.block_bytes = kKiB}));
  auto opened = open();
  for (std::uint64_t i = 0; i < 9002; ++i) {
    const auto key = fmt::format("key-{:06}", i);
    const auto found = opened.reader->get(key);
    ASSERT_TRUE(found) << found.error().message;
    const auto due = contents.find(key);
    ASSERT_EQ(found->has_value(), due != contents.end()) << key;
    if (*found) {
      EXPECT_EQ((*found)->key, key);
      EXPECT_EQ(owned(**found), due->second);
    }
  }
  EXPECT_EQ(opened.reader->get("")->has_value(), false);
  EXPECT_EQ(opened.reader->get("zzz")->has_value(), false);
}

TEST_F(SnapshotTest, ReadingGoesOnFromASoughtKey) {
  const auto contents = numbered(1000);
  ASSERT_TRUE(write(1000, contents, {.block_bytes = kKiB}));
  auto opened = open();
  for (std::uint64_t i = 0; i < 3002; i += 7) {
    const auto key = fmt::format("key-{:06}", i);
    auto due = contents.lower_bound(key);
    ASSERT_TRUE(opened.reader->seek(key));
    for (int step = 0; step < 40; ++step) {
      const auto found = opened.reader->next();
      ASSERT_TRUE(found);
      ASSERT_EQ(found->has_value(), due != contents.end());
      if (!*found) {
        break;
      }
      EXPECT_EQ((*found)->key, due->first);
      ++due;
    }
  }
  // Behind a key that was asked for, there or not.
  ASSERT_TRUE(opened.reader->get("key-000300")->has_value());
  EXPECT_EQ((*opened.reader->next())->key, "key-000303");
  ASSERT_FALSE(opened.reader->get("key-000400")->has_value());
  EXPECT_EQ((*opened.reader->next())->key, "key-000402");
}

TEST_F(SnapshotTest, PartsTogetherAreTheWhole) {
  for (const std::uint64_t count : {0, 1, 3000}) {
    const auto contents = numbered(count);
    ASSERT_TRUE(write(1000, contents, {.block_bytes = kKiB}));
    const auto opened = open();
    for (const std::size_t parts : {0, 1, 2, 7, 100'000}) {
      Contents together;
      std::string last;
      for (auto& part : opened.reader->split(parts)) {
        const auto of_part = all_of(part);
        ASSERT_TRUE(of_part);
        for (const auto& [key, entry] : *of_part) {
          EXPECT_TRUE(together.empty() || key > last) << "parts are not in order";
          last = key;
          together[key] = entry;
        }
      }
      EXPECT_EQ(together, contents) << parts;
    }
  }
}

TEST_F(SnapshotTest, APartSeeksWithinItself) {
  const auto contents = numbered(1000);
  ASSERT_TRUE(write(1000, contents, {.block_bytes = kKiB}));
  auto parts = open().reader->split(2);
  ASSERT_EQ(parts.size(), 2U);
  const std::string first_of_second((*parts[1].next())->key);
  ASSERT_TRUE(parts[1].seek(""));
  EXPECT_EQ((*parts[1].next())->key, first_of_second);
  ASSERT_TRUE(parts[0].seek("zzz"));
  EXPECT_FALSE(parts[0].next()->has_value());
  EXPECT_FALSE(parts[0].get(first_of_second)->has_value());
  EXPECT_FALSE(parts[1].get(contents.begin()->first)->has_value());
}

TEST_F(SnapshotTest, KeysHaveToAscendAndSequencesToLieBefore) {
  auto begun = begin(10, {.block_bytes = kKiB});
  ASSERT_TRUE(begun);
  auto& writer = **begun;
  const auto add = [&](std::string_view key, Sequence sequence) {
    const auto added =
        writer.add({.key = key, .value = "v", .epoch = {}, .sequence = sequence, .expires_at = {}});
    return added ? std::string_view("added") : error_code_name(added.error().code);
  };
  EXPECT_EQ(add("b", 9), "added");
  EXPECT_EQ(add("b", 9), "invalid_argument");
  EXPECT_EQ(add("a", 9), "invalid_argument");
  EXPECT_EQ(add("c", 10), "invalid_argument");
  EXPECT_EQ(add(std::string(2000, 'c'), 0), "added") << "it goes on";
  EXPECT_EQ(add("c", 0), "invalid_argument") << "also across blocks";
  ASSERT_TRUE(writer.finish());
  EXPECT_EQ(writer.finish().error().code, ErrorCode::closed);
  EXPECT_EQ(add("d", 0), "closed");
  EXPECT_EQ(read().size(), 2U);
}

TEST_F(SnapshotTest, WhatNoEntryHoldsIsTooLarge) {
  // Never touched: sizes are judged before bytes are read.
  constexpr std::size_t kBytes = 4 * kGiB;
  void* memory =
      ::mmap(nullptr, kBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  const std::string_view large(static_cast<const char*>(memory), kBytes);
  const auto begun = begin(10);
  ASSERT_TRUE(begun);
  const auto code_of = [&](std::string_view key, std::string_view value) {
    const auto added =
        (*begun)->add({.key = key, .value = value, .epoch = {}, .sequence = 1, .expires_at = {}});
    return added ? std::string_view("ok") : error_code_name(added.error().code);
  };
  EXPECT_EQ(code_of("key", large), "too_large");
  EXPECT_EQ(code_of(large, "value"), "too_large");
  EXPECT_EQ(code_of(large.substr(1), "value"), "too_large");
  EXPECT_EQ(code_of("key", "value"), "ok") << "it goes on";
  ::munmap(memory, kBytes);
}

TEST_F(SnapshotTest, OptionsHaveTheirLimits) {
  EXPECT_EQ(begin(10, {.block_bytes = 1023}).error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(begin(10, {.block_bytes = kMiB + 1}).error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(begin(10, {.retain = 0}).error().code, ErrorCode::invalid_argument);
  EXPECT_FALSE(disk_.list_files("log/snapshots")) << "nothing was made";
}

TEST_F(SnapshotTest, OneThatIsNotFinishedLeavesNothing) {
  ASSERT_TRUE(write(10, numbered(3)));
  {
    auto begun = begin(20);
    ASSERT_TRUE(begun);
    ASSERT_TRUE(
        (*begun)->add({.key = "k", .value = "v", .epoch = {}, .sequence = 1, .expires_at = {}}));
  }
  EXPECT_EQ(files(), std::vector{snapshot_name(10)});
}

TEST_F(SnapshotTest, TheDirectoryIsDurableBeforeAnythingIsInIt) {
  ASSERT_TRUE(begin(20));
  disk_.power_cut(1, {.survival = testing::Survival::nothing});
  EXPECT_EQ(files(), std::vector<std::string>{});
  // Also one that a process which died had made.
  SimulatedDisk other(2);
  const auto log = *other.open_directory("log", true);
  ASSERT_TRUE(log->subdirectory(kSnapshotsName));
  ASSERT_TRUE(SnapshotFileWriter::begin(
      *log, {.log_id = id_of(1), .sequence = 20, .epoch = 8, .created_ms = 1}, {}));
  other.power_cut(1, {.survival = testing::Survival::nothing});
  EXPECT_TRUE(other.list_files("log/snapshots"));
}

TEST_F(SnapshotTest, SettlingMakesNamesDurable) {
  const auto log = directory();
  const auto snapshots = *log->subdirectory(kSnapshotsName);
  ASSERT_TRUE(snapshots->open("x", io::Access::write_buffered, io::Creation::replace));
  ASSERT_TRUE(settle_snapshots(*log));
  disk_.power_cut(1, {.survival = testing::Survival::nothing});
  EXPECT_EQ(files(), std::vector<std::string>{"x"});
}

TEST_F(SnapshotTest, WhatADeadProcessWasWritingIsReplaced) {
  ASSERT_TRUE(disk_.write_file("log/snapshots/next.tmp", as_byte_view(std::string(100'000, 'x'))));
  EXPECT_FALSE(open().reader);
  const auto contents = numbered(3);
  ASSERT_TRUE(write(10, contents));
  EXPECT_EQ(files(), std::vector{snapshot_name(10)});
  EXPECT_EQ(read({.verify = true}), contents);
}

TEST_F(SnapshotTest, ThereMayBeNone) {
  const auto opened = open();
  EXPECT_FALSE(opened.reader);
  EXPECT_TRUE(opened.skipped.empty());
  EXPECT_EQ(list_snapshots("log", &disk_)->size(), 0U);
  EXPECT_EQ(verify_snapshots("log", &disk_)->size(), 0U);
  EXPECT_EQ(list_snapshots(*directory())->size(), 0U);
  EXPECT_TRUE(settle_snapshots(*directory()));
  EXPECT_FALSE(disk_.list_files("log/snapshots")) << "nothing was made";
}

TEST_F(SnapshotTest, WhereThereIsNoLogThereAreNone) {
  EXPECT_EQ(list_snapshots("nothing", &disk_).error().code, ErrorCode::not_a_log);
  ASSERT_TRUE(disk_.open_directory("empty", true));
  EXPECT_EQ(list_snapshots("empty", &disk_).error().code, ErrorCode::not_a_log);
  EXPECT_EQ(verify_snapshots("empty", &disk_).error().code, ErrorCode::not_a_log);
  EXPECT_EQ(SnapshotReader::open("empty", {.file_system = &disk_}).error().code,
            ErrorCode::not_a_log);
}

// --- Which ones are kept

TEST_F(SnapshotTest, TheNewestFewAreKept) {
  for (Sequence sequence = 1; sequence <= 5; ++sequence) {
    const auto written = write(sequence * 10, {}, {.retain = 3});
    ASSERT_TRUE(written);
    EXPECT_FALSE(written->not_removed);
    EXPECT_EQ(written->removed, sequence < 4 ? std::vector<std::string>{}
                                             : std::vector{snapshot_name((sequence - 3) * 10)});
  }
  EXPECT_EQ(files(), (std::vector{snapshot_name(30), snapshot_name(40), snapshot_name(50)}));
  ASSERT_TRUE(write(60, {}, {.retain = 1}));
  EXPECT_EQ(files(), std::vector{snapshot_name(60)});
}

TEST_F(SnapshotTest, ABadOneDoesNotCountAsKept) {
  for (const Sequence sequence : {10, 20, 30}) {
    ASSERT_TRUE(write(sequence, {}, {.retain = 9}));
  }
  ASSERT_TRUE(disk_.flip_bit(path_of(30), 0, 0));
  ASSERT_TRUE(disk_.flip_bit(path_of(10), 0, 0));
  const auto written = write(40, {}, {.retain = 2});
  ASSERT_TRUE(written);
  EXPECT_EQ(written->removed, std::vector{snapshot_name(10)}) << "older than what is kept, and bad";
  EXPECT_EQ(files(), (std::vector{snapshot_name(20), snapshot_name(30), snapshot_name(40)}));
}

TEST_F(SnapshotTest, AnothersIsNotRemoved) {
  ASSERT_TRUE(write(10, {}, {.retain = 9}, 2));
  ASSERT_TRUE(write(20, {}, {.retain = 1}));
  EXPECT_EQ(files(), (std::vector{snapshot_name(10), snapshot_name(20)}));
}

TEST_F(SnapshotTest, OneOfTheSameSequenceIsReplaced) {
  ASSERT_TRUE(write(10, numbered(3)));
  ASSERT_TRUE(disk_.flip_bit(path_of(10), 200, 0));
  ASSERT_TRUE(write(10, numbered(4)));
  EXPECT_EQ(read({.verify = true}), numbered(4));
}

TEST_F(SnapshotTest, OneOlderThanTheNewestIsRefused) {
  ASSERT_TRUE(write(10, {}));
  EXPECT_EQ(begin(9).error().code, ErrorCode::invalid_argument);
  ASSERT_TRUE(disk_.flip_bit(path_of(10), 0, 0));
  EXPECT_TRUE(begin(9)) << "a bad one is no obstacle";
}

// --- Bad ones

TEST_F(SnapshotTest, OneOfAnotherLogIsNotValid) {
  ASSERT_TRUE(write(10, numbered(2)));
  ASSERT_TRUE(write(20, numbered(3), {.retain = 9}, 2));
  const auto opened = open();
  ASSERT_TRUE(opened.reader);
  EXPECT_EQ(opened.reader->file().sequence, 10U);
  ASSERT_EQ(opened.skipped.size(), 1U);
  EXPECT_EQ(opened.skipped[0].sequence, 20U);
  EXPECT_TRUE(opened.skipped[0].reason.ends_with("another log")) << opened.skipped[0].reason;
  const auto listed = list_snapshots("log", &disk_);
  ASSERT_EQ(listed->size(), 2U);
  EXPECT_TRUE((*listed)[0].valid);
  EXPECT_FALSE((*listed)[1].valid);
  EXPECT_FALSE((*verify_snapshots("log", &disk_))[1].valid);
  EXPECT_TRUE((*list_snapshots(*directory()))[1].valid) << "whose it is, is told";
  EXPECT_EQ((*list_snapshots(*directory()))[1].log_id, id_of(2).bytes);
}

TEST_F(SnapshotTest, OneUnderAnothersNameIsNotValid) {
  ASSERT_TRUE(write(10, numbered(2)));
  ASSERT_TRUE(disk_.write_file(path_of(11), *disk_.read_file(path_of(10))));
  const auto opened = open();
  ASSERT_EQ(opened.skipped.size(), 1U);
  EXPECT_TRUE(opened.skipped[0].reason.ends_with("another sequence, 10"));
  EXPECT_EQ(opened.reader->file().sequence, 10U);
}

TEST_F(SnapshotTest, OtherNamesAreNotSnapshots) {
  for (const auto* const name :
       {"10.snapshot", "00000000000000000010", "x.snapshot", "99999999999999999999.snapshot",
        "09223372036854775808.snapshot", "notes.txt"}) {
    ASSERT_TRUE(disk_.write_file(fmt::format("log/snapshots/{}", name), {}));
  }
  EXPECT_EQ(list_snapshots("log", &disk_)->size(), 0U);
}

TEST_F(SnapshotTest, ANewerVersionIsAnErrorThatNamesIt) {
  ASSERT_TRUE(write(10, {}));
  ASSERT_TRUE(write(20, {}));
  auto file = *disk_.read_file(path_of(20));
  store_le(&file[8], std::uint32_t{2});
  const auto header =
      SnapshotHeader{.log_id = id_of(1), .sequence = 20, .epoch = 8, .created_ms = 1'000'000};
  store_le(&file[124], crc32c(place_seed(header.seed(), 0), ByteView(file).first(124)));
  ASSERT_TRUE(disk_.write_file(path_of(20), file));
  const auto opened = SnapshotReader::open("log", {.file_system = &disk_});
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::unsupported_version);
  EXPECT_TRUE(opened.error().message.contains("version 2"));
  EXPECT_FALSE((*list_snapshots("log", &disk_))[1].valid);
}

TEST_F(SnapshotTest, OneByItsSequenceOrBeforeOne) {
  ASSERT_TRUE(write(10, numbered(1), {.retain = 9}));
  ASSERT_TRUE(write(20, numbered(2), {.retain = 9}));
  ASSERT_TRUE(write(30, numbered(3), {.retain = 9}));
  EXPECT_EQ(read({.at = 20}), numbered(2));
  EXPECT_EQ(read({.before = 20}), numbered(1));
  EXPECT_EQ(read({.before = 21}), numbered(2));
  EXPECT_FALSE(open({.at = 25}).reader);
  EXPECT_FALSE(open({.before = 10}).reader);
  ASSERT_TRUE(disk_.flip_bit(path_of(20), 0, 0));
  const auto bad = open({.at = 20});
  EXPECT_FALSE(bad.reader);
  EXPECT_EQ(bad.skipped.size(), 1U);
}

// Goal: nothing that was altered is returned, and the one before serves.
// Method: every byte in turn, and every length; opening with and without reading all of it.
class DamagedSnapshotTest : public SnapshotTest {
 protected:
  DamagedSnapshotTest() {
    EXPECT_TRUE(write(10, older_));
    EXPECT_TRUE(write(20, newer_, {.block_bytes = kKiB}));
    whole_ = *disk_.read_file(path_of(20));
  }

  // Of whatever became of the newer one.
  void expect_fallback(std::string_view what) {
    SCOPED_TRACE(what);
    auto verified = open({.verify = true});
    ASSERT_TRUE(verified.reader);
    ASSERT_EQ(verified.reader->file().sequence, 10U);
    ASSERT_EQ(verified.skipped.size(), 1U);
    EXPECT_TRUE(verified.skipped[0].reason.contains(snapshot_name(20)));
    EXPECT_EQ(*all_of(*verified.reader), older_);
    const auto report = verify_snapshots("log", &disk_);
    ASSERT_TRUE(report && report->size() == 2U);
    EXPECT_TRUE((*report)[0].valid);
    EXPECT_FALSE((*report)[1].valid);

    // What is read before the damage is as it was written.
    auto opened = open();
    ASSERT_TRUE(opened.reader);
    if (opened.reader->file().sequence == 10U) {
      return;
    }
    auto due = newer_.begin();
    while (true) {
      const auto entry = opened.reader->next();
      if (!entry) {
        EXPECT_EQ(entry.error().code, ErrorCode::damaged);
        EXPECT_EQ(opened.reader->next().error().message, entry.error().message);
        break;
      }
      ASSERT_TRUE(*entry) << "damage passed for the end";
      ASSERT_EQ((*entry)->key, due->first);
      ASSERT_EQ(owned(**entry), due->second);
      ++due;
    }
    EXPECT_EQ(read({.before = 20}), older_);
  }

  const Contents older_ = numbered(3);
  const Contents newer_ = numbered(60, 2);
  std::vector<std::byte> whole_;
};

TEST_F(DamagedSnapshotTest, EveryFlippedByteIsNoticed) {
  for (std::size_t i = 0; i < whole_.size(); ++i) {
    auto file = whole_;
    file[i] ^= static_cast<std::byte>(1 << i % 8);
    ASSERT_TRUE(disk_.write_file(path_of(20), file));
    expect_fallback(fmt::format("byte {}", i));
  }
}

TEST_F(DamagedSnapshotTest, EveryCutIsNoticed) {
  for (std::size_t bytes = 0; bytes < whole_.size(); ++bytes) {
    ASSERT_TRUE(disk_.write_file(path_of(20), ByteView(whole_).first(bytes)));
    expect_fallback(fmt::format("{} bytes left", bytes));
  }
}

TEST_F(DamagedSnapshotTest, BytesBehindTheEndAreNoticed) {
  auto file = whole_;
  file.push_back(std::byte{0});
  ASSERT_TRUE(disk_.write_file(path_of(20), file));
  expect_fallback("a byte more");
  file.insert(file.end(), whole_.begin(), whole_.end());
  ASSERT_TRUE(disk_.write_file(path_of(20), file));
  expect_fallback("itself once more");
}

TEST_F(DamagedSnapshotTest, APlaceThatCannotBeReadFallsBackToo) {
  for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{whole_.size() - 10}}) {
    ASSERT_TRUE(disk_.write_file(path_of(20), whole_));
    ASSERT_TRUE(disk_.make_unreadable(path_of(20), offset, 1));
    const auto opened = open();
    ASSERT_TRUE(opened.reader);
    EXPECT_EQ(opened.reader->file().sequence, 10U);
    ASSERT_EQ(opened.skipped.size(), 1U);
  }
}

TEST_F(DamagedSnapshotTest, AFileThatIsCutWhileItIsReadIsDamaged) {
  auto opened = open();
  const auto directory = this->directory()->open_subdirectory(kSnapshotsName);
  const auto file =
      (*directory)->open(snapshot_name(20), io::Access::write_buffered, io::Creation::existing);
  ASSERT_TRUE((*file)->truncate(300));
  auto read = all_of(*opened.reader);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::damaged);
}

// Files whose checksums all match, and which no writer wrote.
class ForgedSnapshotTest : public SnapshotTest {
 protected:
  struct Block {
    std::string separator;
    std::vector<std::string> keys;
  };

  void forge(const std::vector<Block>& blocks, std::uint64_t entries_too_many = 0,
             std::uint64_t plain_bytes_too_many = 0) {
    const SnapshotHeader header{
        .log_id = id_of(1), .sequence = 20, .epoch = 8, .created_ms = 1'000'000};
    std::string file(kSnapshotHeaderBytes, '\0');
    encode_snapshot_header(header, reinterpret_cast<std::byte*>(file.data()));
    SnapshotIndexBuilder index;
    SnapshotFooter footer{.entries = entries_too_many, .plain_bytes = plain_bytes_too_many};
    for (const auto& block : blocks) {
      SnapshotBlockBuilder builder;
      for (const auto& key : block.keys) {
        builder.add({.key = key, .value = "v", .epoch = {}, .sequence = 1, .expires_at = {}});
      }
      footer.entries += builder.entries();
      footer.plain_bytes += builder.plain_bytes();
      const auto begin = file.size();
      builder.finish(Compression::none, header.seed(), begin, file);
      index.add(file.size() - begin, block.separator);
    }
    footer.blocks = index.blocks();
    footer.index_offset = file.size();
    file += std::move(index).finish(header.seed(), footer.index_offset);
    footer.index_bytes = file.size() - footer.index_offset;
    file.resize(file.size() + kSnapshotFooterBytes);
    encode_snapshot_footer(
        footer, header.seed(),
        reinterpret_cast<std::byte*>(file.data() + file.size()) - kSnapshotFooterBytes);
    EXPECT_TRUE(disk_.write_file(path_of(20), as_byte_view(file)));
  }

  // Read to its end, or to what is wrong; and what verifying it says is the same.
  std::string read_text() {
    auto opened = open();
    if (!opened.reader) {
      return "refused";
    }
    const auto verified = open({.verify = true});
    std::string keys;
    while (true) {
      const auto entry = opened.reader->next();
      if (!entry || !*entry) {
        EXPECT_EQ(entry.has_value(), verified.reader.has_value());
        return keys + (entry ? "" : "!");
      }
      keys += (*entry)->key;
    }
  }
};

TEST_F(ForgedSnapshotTest, KeysAreWhereTheIndexSaysOrNotReturned) {
  forge({{"", {"a", "b"}}, {"c", {"c", "d"}}});
  EXPECT_EQ(read_text(), "abcd");
  forge({{"", {"a", "b"}}, {"d", {"c", "d"}}});
  EXPECT_EQ(read_text(), "ab!") << "below its separator";
  forge({{"", {"a", "d"}}, {"c", {"e", "f"}}});
  EXPECT_EQ(read_text(), "ad!") << "above the next one's";
  auto opened = open();
  EXPECT_FALSE(open({.verify = true}).reader);
}

TEST_F(ForgedSnapshotTest, KeysThatDoNotAscendAreNotReturned) {
  forge({{"", {"a", "c", "b"}}, {"d", {"d"}}});
  EXPECT_EQ(read_text(), "ac!");
  auto opened = open();
  EXPECT_TRUE(opened.reader->get("c")->has_value());
  EXPECT_EQ(opened.reader->get("cc").error().code, ErrorCode::damaged);
}

TEST_F(ForgedSnapshotTest, CountsThatAreNotTheBlocksAreNoticed) {
  forge({{"", {"a", "b"}}}, 1);
  EXPECT_FALSE(open({.verify = true}).reader);
  forge({{"", {"a", "b"}}}, 0, 1);
  EXPECT_FALSE(open({.verify = true}).reader);
}

// --- Faults

TEST_F(SnapshotTest, AFullDiskLeavesTheOlderOnesAndNoGarbage) {
  const auto older = numbered(3);
  ASSERT_TRUE(write(10, older));
  const auto free_before = disk_.free_bytes();
  ASSERT_EQ(free_before, SimulatedDisk::kUnlimited);
  disk_.set_capacity_bytes(300 * kKiB);
  const auto free = disk_.free_bytes();
  auto contents = numbered(100);
  contents["large"].value = std::string(400 * kKiB, 'x');
  const auto failed = write(20, contents, {.compression = Compression::none});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::no_space);
  EXPECT_EQ(files(), std::vector{snapshot_name(10)});
  EXPECT_EQ(disk_.free_bytes(), free);
  EXPECT_EQ(read({.verify = true}), older);
  disk_.set_capacity_bytes(SimulatedDisk::kUnlimited);
  ASSERT_TRUE(write(20, contents));
  EXPECT_EQ(read({.verify = true}), contents);
}

TEST_F(SnapshotTest, OneThatFailedAnswersTheSameFromThenOn) {
  auto begun = begin(20, {.compression = Compression::none});
  ASSERT_TRUE(begun);
  const std::string large(2 * kMiB, 'x');
  const auto add = [&](std::string_view key) {
    return (*begun)->add(
        {.key = key, .value = large, .epoch = {}, .sequence = 1, .expires_at = {}});
  };
  ASSERT_TRUE(add("a"));
  disk_.fail_nth(Operation::write, 0, EIO);
  const auto failed = add("b");
  ASSERT_FALSE(failed);
  EXPECT_EQ(add("c").error().message, failed.error().message);
  EXPECT_EQ((*begun)->finish().error().message, failed.error().message);
  EXPECT_EQ(files(), std::vector<std::string>{});
}

constexpr Operation kEveryOperation[] = {
    Operation::open,   Operation::read,           Operation::status, Operation::list,
    Operation::write,  Operation::sync,           Operation::create, Operation::rename,
    Operation::remove, Operation::directory_sync,
};

// Goal: whatever fails, nothing but what was finished is ever found, and an answer of success is
// true.
// Method: each call of writing a snapshot, the removal of two older ones included, fails, once and
// from then on; then power is cut.
TEST_F(SnapshotTest, WritingFailsAtEveryCallAndLosesNothing) {
  const auto older = numbered(5);
  const auto newer = numbered(50, 2);
  ASSERT_TRUE(write(8, {}, {.retain = 9}));
  ASSERT_TRUE(write(9, {}, {.retain = 9}));
  ASSERT_TRUE(write(10, older, {.retain = 9}));
  const auto start = disk_.clone();
  for (const auto operation : kEveryOperation) {
    for (const auto repeat : {Repeat::once, Repeat::forever}) {
      for (std::uint64_t after = 0;; ++after) {
        SCOPED_TRACE(fmt::format("{} {} fails{}", operation_name(operation), after,
                                 repeat == Repeat::once ? "" : ", as do all behind it"));
        const auto disk = start->clone();
        const auto log = *disk->open_directory("log", false);
        disk->fail_nth(operation, after, EIO, repeat, true);
        const auto written =
            finish_with(SnapshotFileWriter::begin(
                            *log, {.log_id = id_of(1), .sequence = 20, .epoch = 8, .created_ms = 1},
                            {.block_bytes = kKiB, .retain = 1}),
                        newer);
        const bool hit = disk->faults_hit() != 0;
        disk->clear_faults();
        for (const auto survival : {testing::Survival::nothing, testing::Survival::everything}) {
          const auto copy = disk->clone();
          copy->power_cut(after, {.survival = survival});
          const auto opened =
              SnapshotReader::open("log", {.verify = true, .file_system = copy.get()});
          ASSERT_TRUE(opened && opened->reader) << "none is left";
          EXPECT_TRUE(opened->skipped.empty()) << opened->skipped[0].reason;
          const auto sequence = opened->reader->file().sequence;
          EXPECT_TRUE(sequence == 20 || (sequence == 10 && !written)) << sequence;
          EXPECT_EQ(opened->reader->file().entries, sequence == 20 ? newer.size() : older.size());
        }
        if (!hit) {
          ASSERT_TRUE(written) << written.error().message;
          EXPECT_EQ(written->removed.size(), 3U);
          break;
        }
      }
    }
  }
}

TEST_F(SnapshotTest, ReadingFailsAtEveryCallAndTellsNothingWrong) {
  const auto older = numbered(5);
  const auto newer = numbered(50, 2);
  ASSERT_TRUE(write(10, older));
  ASSERT_TRUE(write(20, newer, {.block_bytes = kKiB}));
  for (const auto operation :
       {Operation::open, Operation::read, Operation::status, Operation::list}) {
    for (const auto repeat : {Repeat::once, Repeat::forever}) {
      for (std::uint64_t after = 0;; ++after) {
        SCOPED_TRACE(fmt::format("{} {}", operation_name(operation), after));
        const auto hits_before = disk_.faults_hit();
        disk_.fail_nth(operation, after, EIO, repeat);
        auto opened = SnapshotReader::open("log", {.file_system = &disk_});
        Result<Contents> contents = Contents{};
        if (opened && opened->reader) {
          contents = all_of(*opened->reader);
        }
        const bool hit = disk_.faults_hit() != hits_before;
        disk_.clear_faults();
        if (!opened) {
          EXPECT_EQ(opened.error().code, ErrorCode::io);
        } else if (!opened->reader) {
          EXPECT_EQ(opened->skipped.size(), 2U) << "none was there, without a word";
        } else if (!contents) {
          EXPECT_EQ(contents.error().code, ErrorCode::io);
          const auto rest = all_of(*opened->reader);
          ASSERT_TRUE(rest) << "it does not go on";
          EXPECT_FALSE(rest->empty());
          for (const auto& [key, entry] : *rest) {
            EXPECT_EQ(entry, newer.at(key));
          }
        } else if (opened->reader->file().sequence == 20) {
          EXPECT_EQ(*contents, newer);
        } else {
          EXPECT_EQ(*contents, older);
          EXPECT_EQ(opened->skipped.size(), 1U);
        }
        if (!hit) {
          break;
        }
      }
    }
  }
}

TEST_F(SnapshotTest, ListingAndVerifyingFailAtEveryCallAndTellIt) {
  using Ask = Result<std::vector<SnapshotFile>> (*)(const std::filesystem::path&, io::FileSystem*);
  ASSERT_TRUE(write(10, numbered(5)));
  ASSERT_TRUE(write(20, numbered(50, 2), {.block_bytes = kKiB}));
  for (const Ask ask : {Ask{list_snapshots}, Ask{verify_snapshots}}) {
    for (const auto operation :
         {Operation::open, Operation::read, Operation::status, Operation::list}) {
      for (const auto repeat : {Repeat::once, Repeat::forever}) {
        for (std::uint64_t after = 0;; ++after) {
          SCOPED_TRACE(fmt::format("{} {}", operation_name(operation), after));
          const auto hits_before = disk_.faults_hit();
          disk_.fail_nth(operation, after, EIO, repeat);
          const auto files = ask("log", &disk_);
          const bool hit = disk_.faults_hit() != hits_before;
          disk_.clear_faults();
          if (!files) {
            EXPECT_EQ(files.error().code, ErrorCode::io);
          } else {
            ASSERT_EQ(files->size(), 2U);
            EXPECT_EQ(std::ranges::all_of(*files, &SnapshotFile::valid), !hit);
            for (const auto& file : *files) {
              EXPECT_EQ(file.valid, file.reason.empty());
            }
          }
          if (!hit) {
            ASSERT_TRUE(files);
            break;
          }
        }
      }
    }
  }
}

TEST_F(SnapshotTest, SeekingFailsAtEveryCallAndGoesOn) {
  const auto contents = numbered(200);
  ASSERT_TRUE(write(10, contents, {.block_bytes = kKiB}));
  auto opened = open();
  ASSERT_TRUE(opened.reader);
  std::uint64_t failed = 0;
  for (const auto& [key, entry] : contents) {
    disk_.fail_nth(Operation::read, 0, EIO);
    const auto sought = opened.reader->seek(key);
    const auto found = opened.reader->get(key);  // in the same block
    disk_.clear_faults();
    failed += sought ? 0 : 1;
    EXPECT_TRUE(sought || sought.error().code == ErrorCode::io);
    ASSERT_TRUE(found && *found) << key;
    EXPECT_EQ(owned(**found), entry);
    disk_.fail_nth(Operation::read, 0, EIO);
    const auto other = opened.reader->get(contents.rbegin()->first);
    disk_.clear_faults();
    EXPECT_TRUE(other || other.error().code == ErrorCode::io);
  }
  EXPECT_GT(failed, 5U);
}

// Beside a writer: one that is listed may be gone when it is opened, for a newer one.
TEST_F(SnapshotTest, WhatGoesMeanwhileIsLookedForAgain) {
  const auto older = numbered(5);
  ASSERT_TRUE(write(10, older));
  ASSERT_TRUE(write(20, numbered(6)));
  const auto at_opening = [&](std::string_view name, Repeat repeat) {
    disk_.inject({.operations = Operation::open,
                  .system_errno = ENOENT,
                  .repeat = repeat,
                  .name_suffix = std::string(name)});
  };
  at_opening("20.snapshot", Repeat::once);
  auto opened = open();
  ASSERT_TRUE(opened.reader);
  EXPECT_EQ(opened.reader->file().sequence, 20U);
  at_opening("20.snapshot", Repeat::once);
  EXPECT_EQ(list_snapshots("log", &disk_)->size(), 1U);
  disk_.inject({.operations = Operation::open,
                .after = 2,
                .system_errno = ENOENT,
                .name_suffix = ".snapshot"});
  EXPECT_EQ(verify_snapshots("log", &disk_)->size(), 1U) << "listed, then gone";
  at_opening("20.snapshot", Repeat::forever);
  EXPECT_EQ(SnapshotReader::open("log", {.file_system = &disk_}).error().system_errno, ENOENT);
  disk_.clear_faults();
  at_opening(".wal", Repeat::once);
  EXPECT_TRUE(open().reader);
  at_opening(".wal", Repeat::forever);
  EXPECT_TRUE(open().reader) << "whose they are cannot be told";
  disk_.clear_faults();
}

TEST_F(SnapshotTest, WhereNoSegmentTellsWhoseTheyAreAllAreListed) {
  ASSERT_TRUE(write(10, numbered(5)));
  ASSERT_TRUE(write(20, numbered(6), {}, 2));
  ASSERT_TRUE(disk_.flip_bit("log/000000.wal", 40, 0));
  EXPECT_TRUE(std::ranges::all_of(*list_snapshots("log", &disk_), &SnapshotFile::valid));
  EXPECT_TRUE(std::ranges::all_of(*verify_snapshots("log", &disk_), &SnapshotFile::valid));
  ASSERT_TRUE(disk_.remove_file("log/000000.wal"));
  EXPECT_EQ(list_snapshots("log", &disk_)->size(), 2U);
  EXPECT_EQ(open().reader->file().sequence, 20U);
}

TEST_F(SnapshotTest, AnEmptyOneHasNothingToFind) {
  ASSERT_TRUE(write(10, {}));
  auto opened = open();
  ASSERT_TRUE(opened.reader);
  ASSERT_TRUE(opened.reader->seek("key"));
  EXPECT_FALSE(opened.reader->get("key")->has_value());
  EXPECT_FALSE(opened.reader->next()->has_value());
}

// Goal: what is larger than what is written or synced at once is told of a failure all the same.
TEST_F(SnapshotTest, ALargeOneIsSyncedOnTheWay) {
  Contents contents;
  for (int i = 0; i < 35; ++i) {
    contents[fmt::format("key-{:02}", i)] = {
        .value = std::string(kMiB, 'v'), .epoch = {}, .sequence = 1, .expires_at = {}};
  }
  const SnapshotOptions options{.compression = Compression::none};
  disk_.fail_nth(Operation::sync, 0, EIO);
  EXPECT_EQ(write(10, contents, options).error().code, ErrorCode::io);
  disk_.set_tracing(true);
  ASSERT_TRUE(write(10, contents, options));
  EXPECT_EQ(
      std::ranges::count_if(
          disk_.trace(), [](const std::string& line) { return line.starts_with("sync next.tmp"); }),
      2);
  EXPECT_EQ(read({.verify = true}), contents);
  // The last block may be what fills a write.
  const Contents one{{"key", contents.begin()->second}};
  disk_.fail_nth(Operation::write, 0, EIO);
  EXPECT_EQ(write(20, one, options).error().code, ErrorCode::io);
}

}  // namespace
}  // namespace nori
