// The contract of nori/wal.h, property by property, on a simulated disk.

#include "nori/wal.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/crc32c.h"
#include "base/little_endian.h"
#include "format/segment_header.h"
#include "nori/consumer.h"
#include "nori/verify.h"
#include "testing/recovered_log.h"
#include "testing/results.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::code_of;
using testing::DirectSupport;
using testing::ok;
using testing::SimulatedDisk;
using testing::Survival;
using On = testing::Operation;

// Nothing here takes nearly as long, unless it hangs.
constexpr seconds kTooLong{30};

TimePoint at_ms(std::int64_t ms) { return TimePoint{milliseconds{ms}}; }

class WalTest : public ::testing::Test {
 public:
  ~WalTest() override { wal_.reset(); }

 protected:
  static constexpr std::uint64_t kCapacityBytes = 4 * kGiB;

  WalTest() {
    options_.fsync = FsyncPolicy::os();
    options_.file_system = &disk_;
    disk_.set_capacity_bytes(kCapacityBytes);
  }

  Wal& open(OpenMode mode = OpenMode::create) {
    wal_.reset();
    auto options = options_;
    options.mode = mode;
    auto opened = ok(Wal::open(options));
    recovery_ = std::move(opened.recovery);
    wal_.emplace(std::move(opened.wal));
    return *wal_;
  }
  // What opening answers; an opening that succeeds is closed again.
  std::string_view code_of_open(OpenMode mode = OpenMode::create) {
    auto options = options_;
    options.mode = mode;
    return code_of(Wal::open(options));
  }
  // A process that dies, and the next one.
  Wal& open_after_kill() {
    disk_.crash_process();
    return open();
  }
  Wal& open_after_power_cut() {
    disk_.power_cut(1, {.survival = Survival::nothing});
    return open();
  }

  // Records "0", "1", ... with values of `value_bytes`, numbered on from what is there.
  void append(std::uint64_t records, std::size_t value_bytes = 10) {
    for (std::uint64_t i = 0; i < records; ++i) {
      const auto sequence = wal_->current_position().sequence;
      const auto appended = ok(
          wal_->append(Record::put(fmt::format("{}", sequence), value_of(sequence, value_bytes))));
      EXPECT_EQ(appended.sequence, sequence);
    }
  }
  static std::string value_of(Sequence sequence, std::size_t value_bytes) {
    return std::string(value_bytes, static_cast<char>('a' + sequence % 26));
  }

  static std::vector<OwnedEntry> read_rest(Reader& reader) {
    std::vector<OwnedEntry> entries;
    while (const auto entry = ok(reader.next())) {
      entries.push_back(entry->copy());
    }
    return entries;
  }
  std::vector<OwnedEntry> read(ReadFrom from = begin_of_log, ReadOptions options = {}) {
    auto reader = ok(wal_->read_from(from, options));
    return read_rest(reader);
  }
  // The log holds exactly the records that append() makes, [first, end).
  void expect_records(Sequence first, Sequence end, std::size_t value_bytes = 10) {
    const auto entries = read();
    EXPECT_EQ(entries.size(), end - first);
    auto sequence = first;
    for (const auto& entry : entries) {
      ASSERT_EQ(entry.sequence, sequence);
      ASSERT_EQ(entry.key, fmt::format("{}", sequence));
      ASSERT_EQ(entry.value, value_of(sequence, value_bytes));
      ++sequence;
    }
  }

  void leave_free(std::uint64_t bytes) {
    disk_.set_capacity_bytes(kCapacityBytes);
    disk_.set_capacity_bytes(kCapacityBytes - disk_.free_bytes() + bytes);
  }

  [[nodiscard]] std::map<std::string, std::vector<std::byte>> files() const {
    std::map<std::string, std::vector<std::byte>> files;
    const auto names = ok(disk_.list_files("log"));
    for (const auto& name : names) {
      if (!name.ends_with('/') && name != "lock") {
        files[name] = ok(disk_.read_file("log/" + name));
      }
    }
    return files;
  }

  SimulatedDisk disk_{1};
  WalOptions options_ = testing::small_options();
  std::optional<Wal> wal_;
  RecoveryInfo recovery_;
};

// --- open ----------------------------------------------------------------------------------------

class WalOpenTest : public WalTest {};

TEST_F(WalOpenTest, CreateMakesALogWithItsParents) {
  options_.directory = "a/b/log";
  open();
  EXPECT_TRUE(recovery_.created);
  EXPECT_EQ(recovery_.next_sequence, 0U);
  EXPECT_TRUE(read().empty());
}

TEST_F(WalOpenTest, OtherModesMakeNothing) {
  EXPECT_EQ(code_of_open(OpenMode::existing), "not_a_log");
  EXPECT_EQ(code_of_open(OpenMode::read_only), "not_a_log");
  EXPECT_FALSE(disk_.list_files("log"));
  ok(disk_.open_directory("log", true));
  EXPECT_EQ(code_of_open(OpenMode::existing), "not_a_log");
  EXPECT_EQ(code_of_open(OpenMode::read_only), "not_a_log");
  EXPECT_TRUE(ok(disk_.list_files("log")).empty());
}

TEST_F(WalOpenTest, ADirectoryOfSomethingElseIsNotALog) {
  ok(disk_.write_file("log/photo.jpg", as_byte_view("bytes")));
  for (const auto mode : {OpenMode::create, OpenMode::existing, OpenMode::read_only}) {
    EXPECT_EQ(code_of_open(mode), "not_a_log");
  }
  EXPECT_EQ(ok(disk_.list_files("log")), std::vector<std::string>{"photo.jpg"});
}

TEST_F(WalOpenTest, AllModesOpenALogThatIsThere) {
  open();
  append(3);
  for (const auto mode : {OpenMode::create, OpenMode::existing, OpenMode::read_only}) {
    open(mode);
    EXPECT_FALSE(recovery_.created);
    EXPECT_EQ(recovery_.next_sequence, 3U);
    expect_records(0, 3);
  }
}

TEST_F(WalOpenTest, OptionsBeyondTheirLimitsAreRefused) {
  const auto refused = [&](auto change) {
    const auto kept = options_;
    change(options_);
    EXPECT_EQ(code_of_open(), "invalid_argument");
    options_ = kept;
  };
  refused([](auto& options) { options.directory.clear(); });
  refused([](auto& options) { options.segment_bytes = 64 * kKiB - 1; });
  refused([](auto& options) { options.segment_bytes = 4 * kGiB + 1; });
  refused([](auto& options) { options.retention.max_age = milliseconds{-1}; });
  refused([](auto& options) { options.compaction.garbage_ratio = -0.1; });
  refused([](auto& options) { options.compaction.garbage_ratio = 1; });
  refused([](auto& options) { options.compaction.idle = milliseconds{-1}; });
  refused([](auto& options) { options.compaction.memory_bytes = kMiB - 1; });
  refused([](auto& options) { options.ring_bytes = 64 * kKiB - 1; });
  refused([](auto& options) { options.ring_bytes = kGiB + 1; });
  refused([](auto& options) { options.fsync = FsyncPolicy::batch(milliseconds{-1}); });
  refused([](auto& options) { options.fsync = FsyncPolicy::batch(milliseconds{60'001}); });
  refused([](auto& options) {  // every append would be a write of its own, through the page cache
    options.io = IoMode::direct;
    options.ring_bytes = WalOptions::kNoRing;
  });
  EXPECT_FALSE(disk_.list_files("log").has_value() && !files().empty());
}

TEST_F(WalOpenTest, OptionsAtTheirLimitsAreTaken) {
  const auto taken = [&](auto change) {
    const auto kept = options_;
    change(options_);
    open();
    append(1);
    options_ = kept;
  };
  taken([](auto& options) { options.segment_bytes = 4 * kGiB; });
  taken([](auto& options) { options.fsync = FsyncPolicy::batch(milliseconds{0}); });
  taken([](auto& options) { options.fsync = FsyncPolicy::batch(milliseconds{60'000}); });
  taken([](auto& options) { options.ring_bytes = WalOptions::kNoRing; });
  expect_records(0, 4);
}

TEST_F(WalOpenTest, ARingIsAPowerOfTwoWithinASegment) {
  options_.segment_bytes = 300 * kKiB;
  options_.ring_bytes = 100 * kKiB;
  EXPECT_EQ(open().stats().ring_bytes, 128 * kKiB);
  options_.ring_bytes = kGiB;
  EXPECT_EQ(open().stats().ring_bytes, 256 * kKiB);
}

TEST_F(WalOpenTest, ASecondWriterIsToldWhoHoldsTheLog) {
  open();
  append(1);
  const auto before = disk_.operations();
  for (const auto mode : {OpenMode::create, OpenMode::existing}) {
    auto options = options_;
    options.mode = mode;
    const auto second = Wal::open(options);
    EXPECT_EQ(code_of(second), "locked");
    EXPECT_NE(second.error().message.find(disk_.holder_description()), std::string::npos)
        << second.error().message;
  }
  EXPECT_EQ(disk_.operations(), before);
  append(1);
  wal_.reset();
  EXPECT_EQ(code_of_open(), "ok");
}

TEST_F(WalOpenTest, ReadingNeedsNoLockAndChangesNothing) {
  open();
  append(3);
  const auto before = disk_.operations();
  {
    auto options = options_;
    options.mode = OpenMode::read_only;
    auto reading = ok(Wal::open(options));
    EXPECT_EQ(reading.recovery.next_sequence, 3U);
    auto reader = ok(reading.wal.read_from(begin_of_log));
    EXPECT_EQ(read_rest(reader).size(), 3U);
  }
  EXPECT_EQ(disk_.operations(), before);
}

TEST_F(WalOpenTest, AReadOnlyLogRefusesToChangeAnything) {
  open();
  append(3);
  wal_.reset();
  auto& wal = open(OpenMode::read_only);
  const auto before = disk_.operations();
  EXPECT_EQ(code_of(wal.append(Record::put("a", "b"))), "invalid_argument");
  EXPECT_EQ(code_of(wal.try_append(Record::put("a", "b"))), "invalid_argument");
  EXPECT_EQ(code_of(wal.rotate()), "invalid_argument");
  EXPECT_EQ(code_of(wal.delete_segments_before(wal.current_position())), "invalid_argument");
  EXPECT_EQ(code_of(wal.close()), "ok");
  EXPECT_EQ(disk_.operations(), before);
}

// Only the writer flushes; what it made durable since counts.
TEST_F(WalOpenTest, AReadOnlyLogDoesNotSayThatSomethingIsDurableThatIsNot) {
  open();
  append(2);
  auto writing = std::move(*wal_);
  auto& reading = open(OpenMode::read_only);
  EXPECT_EQ(code_of(reading.wait_durable(reading.current_position())), "invalid_argument");
  ok(reading.sync());  // it has appended nothing
  ok(writing.sync());
  EXPECT_EQ(code_of(reading.wait_durable(reading.current_position())), "ok");
}

TEST_F(WalOpenTest, WhatTheSystemForbidsIsPermission) {
  open();
  wal_.reset();
  for (const auto mode : {OpenMode::create, OpenMode::existing, OpenMode::read_only}) {
    disk_.fail_nth(On::open, 0, EACCES);
    EXPECT_EQ(code_of_open(mode), "permission");
    disk_.clear_faults();
  }
}

TEST_F(WalOpenTest, WhatCannotBeReadIsIo) {
  open();
  append(3);
  disk_.crash_process();
  for (const auto mode : {OpenMode::create, OpenMode::read_only}) {
    disk_.fail_nth(On::read, 0, EIO);
    EXPECT_EQ(code_of_open(mode), "io");
    disk_.clear_faults();
  }
  open();
  expect_records(0, 3);
}

TEST_F(WalOpenTest, ANewerVersionIsNamed) {
  open();
  append(1);
  wal_.reset();
  auto bytes = ok(disk_.read_file("log/000000.wal"));
  const auto header = decode_segment_header(bytes);
  ASSERT_TRUE(header.has_value());
  store_le(&bytes[8], std::uint32_t{77});
  store_le(&bytes[kSegmentHeaderBytes - 4],
           crc32c(place_seed(header->seed(), 0), ByteView(bytes).first(kSegmentHeaderBytes - 4)));
  ok(disk_.write_file("log/000000.wal", bytes));
  for (const auto mode : {OpenMode::create, OpenMode::existing, OpenMode::read_only}) {
    auto options = options_;
    options.mode = mode;
    const auto opened = Wal::open(options);
    EXPECT_EQ(code_of(opened), "unsupported_version");
    EXPECT_NE(opened.error().message.find("version 77"), std::string::npos);
  }
}

TEST_F(WalOpenTest, DamageIsNamedAndLeftAsItIs) {
  open();
  append(3);
  ok(wal_->sync());
  append(1);
  wal_.reset();
  ok(disk_.flip_bit("log/000000.wal", 8192 + 20, 0));  // behind the opening frame's block
  options_.verification = Verification::all;
  const auto before = files();
  const auto opened = Wal::open(options_);
  EXPECT_EQ(code_of(opened), "damaged");
  EXPECT_NE(opened.error().message.find("000000.wal at offset 8192"), std::string::npos)
      << opened.error().message;
  ASSERT_TRUE(opened.error().position);
  EXPECT_EQ(opened.error().position->segment_id, 0U);
  EXPECT_EQ(opened.error().position->offset, 8192U);
  EXPECT_EQ(files(), before);
  open(OpenMode::read_only);
  EXPECT_TRUE(recovery_.corruption_detected);
}

// An opening frame is durable before anything behind it is written: what is there without it says
// that it was lost, although no mark does.
TEST_F(WalOpenTest, AFrameBehindALostOpeningIsEvidence) {
  options_.ring_bytes = WalOptions::kNoRing;
  open();
  append(3);
  open();
  append(1);
  const auto record = read().back().position;
  disk_.crash_process();
  wal_.reset();
  ok(disk_.flip_bit("log/000000.wal", record.offset - 4096 + 20, 0));
  const auto opened = Wal::open(options_);
  EXPECT_EQ(code_of(opened), "damaged");
  EXPECT_NE(opened.error().message.find("later opening"), std::string::npos)
      << opened.error().message;
}

// Files that got a segment's name and nothing else, of a filesystem that lost the rest: whatever
// crash cuts their removal short leaves no hole among them, which would be damage.
TEST_F(WalOpenTest, EmptySegmentsBehindTheEndGoNewestFirst) {
  open();
  append(3);
  ok(wal_->sync());
  disk_.crash_process();
  wal_.reset();
  const std::vector<std::byte> zeros(8192);
  ok(disk_.write_file("log/000001.wal", zeros));
  ok(disk_.write_file("log/000002.wal", zeros));
  bool died = true;
  for (std::uint64_t operations = 0; died; ++operations) {
    const auto disk = disk_.clone();
    auto options = options_;
    options.file_system = disk.get();
    disk->crash_after(operations);
    {
      const auto interrupted = Wal::open(options);
      died = disk->dead();
      ASSERT_EQ(code_of(interrupted), died ? "io" : "ok");
      disk->power_cut(operations, {.survival = Survival::everything});
    }
    const auto opened = Wal::open(options);
    ASSERT_EQ(code_of(opened), "ok") << opened.error().message << " after " << operations;
    EXPECT_EQ(opened->recovery.next_sequence, 3U);
  }
}

TEST_F(WalOpenTest, DirectIoIsTriedAndReplacedOrRefused) {
  EXPECT_EQ(open().stats().io, IoMode::direct);
  for (const auto support : {DirectSupport::refused_at_open, DirectSupport::refused_at_write}) {
    disk_.set_direct_support(support);
    EXPECT_EQ(open().stats().io, IoMode::buffered);
    EXPECT_FALSE(wal_->stats().io_reason.empty());
    append(1);
    wal_.reset();
    options_.io = IoMode::direct;
    const auto before = files();
    EXPECT_EQ(code_of_open(), "invalid_argument");
    EXPECT_EQ(files(), before);
    options_.io = IoMode::automatic;
  }
  disk_.set_direct_support(DirectSupport::works);
  options_.io = IoMode::buffered;
  EXPECT_EQ(open().stats().io, IoMode::buffered);
  expect_records(0, 2);
}

TEST_F(WalOpenTest, DirectIoIsNotEvenTriedWhereItIsNotReliable) {
  io::DirectoryTraits traits;
  traits.direct_allowed = false;
  traits.file_system_name = "network";
  disk_.set_traits(traits);
  const auto stats = open().stats();
  EXPECT_EQ(stats.io, IoMode::buffered);
  EXPECT_NE(stats.io_reason.find("network"), std::string::npos) << stats.io_reason;
  append(3);
  wal_.reset();
  options_.io = IoMode::direct;
  EXPECT_EQ(code_of_open(), "invalid_argument");
  options_.io = IoMode::automatic;
  open();
  expect_records(0, 3);
}

// Goal: a log goes on where blocks have another size than where it was made.
// Method: blocks of 4096, 8192, 16384 and 4096 bytes; each time the log goes once around its ring,
// in segments and with padding of the new size, and its process is killed.
TEST_F(WalOpenTest, BlocksMayChangeTheirSize) {
  options_.segment_bytes = 200 * kKiB;
  Sequence records = 0;
  for (const std::uint64_t block_bytes : {4096, 8192, 16384, 4096}) {
    disk_.set_traits({.direct_alignment = 4096,
                      .block_bytes = block_bytes,
                      .direct_allowed = true,
                      .mapping_allowed = true,
                      .file_system_name = "simulated"});
    open();
    EXPECT_EQ(recovery_.next_sequence, records);
    EXPECT_EQ(wal_->stats().block_bytes, block_bytes);
    for (int i = 0; i < 100; ++i) {
      append(1);
      ok(wal_->sync());
      ++records;
    }
    append(3);
    records += 3;
    disk_.crash_process();
  }
  open_after_power_cut();
  EXPECT_GE(recovery_.next_sequence, records - 3);
  expect_records(0, recovery_.next_sequence);
}

// Made on blocks of 4096 bytes and not written to before they were larger.
TEST_F(WalOpenTest, AnEmptyLogMayMeetLargerBlocks) {
  open();
  disk_.crash_process();
  disk_.set_traits({.direct_alignment = 4096,
                    .block_bytes = 8192,
                    .direct_allowed = true,
                    .mapping_allowed = true,
                    .file_system_name = "simulated"});
  open();
  append(3);
  ok(wal_->sync());
  open_after_power_cut();
  expect_records(0, 3);
}

// 2^24 - 1 openings are as many as a frame's epoch can count.
TEST_F(WalOpenTest, AnOpeningTooManyIsRefusedAndTheLogCanBeRead) {
  open();
  append(3);
  ok(wal_->rotate());
  wal_.reset();
  auto bytes = ok(disk_.read_file("log/000001.wal"));
  auto header = *decode_segment_header(bytes);
  header.epoch = std::uint64_t{0xff'ffff} << 40;
  encode_segment_header(header, bytes.data());
  bytes.resize(header.first_offset);
  ok(disk_.remove_file("log/000000.wal"));
  ok(disk_.write_file("log/000001.wal", bytes));
  open();
  EXPECT_EQ(recovery_.next_sequence, 3U);
  const auto refused = wal_->append(Record::put("a", "b"));
  EXPECT_EQ(code_of(refused), "too_large");
  EXPECT_NE(refused.error().message.find("16777215 times"), std::string::npos)
      << refused.error().message;
  EXPECT_TRUE(read().empty());
}

TEST_F(WalOpenTest, OfALongRecoveryTheProgressIsTold) {
  options_.segment_bytes = 64 * kMiB;
  open();
  append(20, 1'000'000);
  disk_.crash_process();
  std::vector<RecoveryProgress> told;
  options_.on_recovery_progress = [&](const auto& progress) { told.push_back(progress); };
  open();
  EXPECT_EQ(recovery_.valid_records, 20U);
  ASSERT_GE(told.size(), 3U);
  for (std::size_t i = 1; i < told.size(); ++i) {
    EXPECT_GE(told[i].bytes_read, told[i - 1].bytes_read);
    EXPECT_EQ(told[i].bytes_total, told[0].bytes_total);
  }
  EXPECT_GT(told.back().bytes_read, 20'000'000U);
}

TEST_F(WalOpenTest, ARefusedOpeningLeavesAKilledLogAsItWas) {
  open();
  append(3);
  disk_.crash_process();
  disk_.set_direct_support(DirectSupport::refused_at_write);
  options_.io = IoMode::direct;
  const auto before = files();
  EXPECT_EQ(code_of_open(), "invalid_argument");
  EXPECT_EQ(files(), before);
}

TEST_F(WalOpenTest, WhereMappingIsNotAllowedThereIsNoRing) {
  io::DirectoryTraits traits;
  traits.mapping_allowed = false;
  traits.file_system_name = "copy-on-write";
  disk_.set_traits(traits);
  const auto stats = open().stats();
  EXPECT_EQ(stats.ring_bytes, 0U);
  EXPECT_NE(stats.ring_reason.find("copy-on-write"), std::string::npos);
  append(3);
  open_after_kill();
  expect_records(0, 3);
}

TEST_F(WalOpenTest, AfterACleanCloseNothingIsScanned) {
  open();
  append(3);
  ok(wal_->rotate());
  append(3);
  ok(wal_->close());
  open();
  EXPECT_TRUE(recovery_.closed_cleanly);
  EXPECT_EQ(recovery_.segments_scanned, 0U);
  EXPECT_EQ(recovery_.valid_records, 0U);
  EXPECT_EQ(recovery_.next_sequence, 6U);
  expect_records(0, 6);
}

TEST_F(WalOpenTest, TheDestructorCloses) {
  open();
  append(3);
  wal_.reset();
  open();
  EXPECT_TRUE(recovery_.closed_cleanly);
  expect_records(0, 3);
}

TEST_F(WalOpenTest, VerificationAllReadsEverySegment) {
  open();
  append(3);
  ok(wal_->rotate());
  append(3);
  ok(wal_->close());
  options_.verification = Verification::all;
  RecoveryProgress last;
  std::uint64_t calls = 0;
  options_.on_recovery_progress = [&](const RecoveryProgress& progress) {
    EXPECT_GE(progress.bytes_read, last.bytes_read);
    last = progress;
    ++calls;
  };
  open();
  EXPECT_EQ(recovery_.segments_scanned, 2U);
  EXPECT_EQ(recovery_.valid_records, 6U);
  EXPECT_GT(calls, 0U);
  EXPECT_GT(last.bytes_read, 0U);
  EXPECT_LE(last.bytes_read, last.bytes_total);
}

TEST_F(WalOpenTest, AReopeningWithoutAWriteLeavesEveryByte) {
  open();
  append(3);
  ok(wal_->rotate());
  append(3);
  wal_.reset();
  const auto before = files();
  for (int i = 0; i < 3; ++i) {
    open();
    expect_records(0, 6);
    ok(wal_->sync());
    ok(wal_->close());
    EXPECT_EQ(files(), before);
  }
}

TEST_F(WalOpenTest, AnOpeningThatWritesIsAnEpoch) {
  std::vector<Epoch> epochs;
  for (int i = 0; i < 3; ++i) {
    open();
    ok(wal_->close());  // of its own only where there was something to do
    open();
    append(1);
    epochs.push_back(read().back().epoch);
  }
  EXPECT_LT(epochs[0].number(), epochs[1].number());
  EXPECT_LT(epochs[1].number(), epochs[2].number());
  EXPECT_NE(epochs[0].random(), epochs[1].random());
  const auto entries = read();
  EXPECT_EQ(entries[0].epoch, epochs[0]);
  EXPECT_EQ(entries[1].epoch, epochs[1]);
}

TEST_F(WalOpenTest, WhatAKilledProcessAppendedIsThere) {
  open();
  append(3);
  ok(wal_->sync());
  append(2);
  const auto end = wal_->current_position();
  open_after_kill();
  EXPECT_FALSE(recovery_.closed_cleanly);
  EXPECT_FALSE(recovery_.torn_tail);
  EXPECT_FALSE(recovery_.corruption_detected);
  EXPECT_EQ(recovery_.bytes_truncated, 0U);
  EXPECT_EQ(recovery_.valid_records, 5U);
  EXPECT_GE(recovery_.records_from_ring, 2U);
  EXPECT_EQ(recovery_.next_sequence, end.sequence);
  ASSERT_TRUE(recovery_.last_valid_position);
  EXPECT_EQ(recovery_.last_valid_position->sequence, 4U);
  EXPECT_EQ(wal_->durable_position().sequence, 5U) << "open makes all of it durable";
  open_after_power_cut();
  expect_records(0, 5);
}

TEST_F(WalOpenTest, WhatAPowerCutToreIsCutAndKept) {
  open();
  append(3);
  ok(wal_->sync());
  const auto durable = wal_->durable_position();
  append(40, 1000);
  // The ring is lost, its whole blocks were written behind: some reach the disk.
  std::uint64_t torn = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    auto disk = disk_.clone();
    disk->power_cut(seed, {.survival = Survival::random, .torn_sectors = true});
    auto options = options_;
    options.file_system = disk.get();
    auto opened = ok(Wal::open(options));
    EXPECT_GE(opened.recovery.next_sequence, durable.sequence);
    EXPECT_FALSE(opened.recovery.corruption_detected);
    if (opened.recovery.torn_tail) {
      ++torn;
      EXPECT_TRUE(opened.recovery.truncated_at.has_value());
      EXPECT_FALSE(opened.recovery.reason.empty());
      EXPECT_FALSE(opened.recovery.quarantined.empty() && opened.recovery.quarantine_note.empty());
    }
    auto reader = ok(opened.wal.read_from(begin_of_log));
    EXPECT_EQ(read_rest(reader).size(), opened.recovery.next_sequence);
  }
  EXPECT_GT(torn, 0U);
}

// --- append --------------------------------------------------------------------------------------

class WalAppendTest : public WalTest {};

TEST_F(WalAppendTest, SequencesAreDenseAndEndsExclusive) {
  open();
  auto end = wal_->current_position();
  EXPECT_EQ(end.sequence, 0U);
  for (Sequence sequence = 0; sequence < 5; ++sequence) {
    const auto appended = ok(wal_->append(Record::put("key", "value")));
    EXPECT_EQ(appended.sequence, sequence);
    EXPECT_EQ(appended.position.sequence, sequence);
    EXPECT_EQ(appended.end.sequence, sequence + 1);
    EXPECT_EQ(wal_->current_position(), appended.end);
    EXPECT_EQ(wal_->current_position().offset, appended.end.offset);
  }
  Batch batch;
  batch.put("a", "1");
  batch.put("b", "2");
  batch.remove("a");
  const auto appended = ok(wal_->append(batch));
  EXPECT_EQ(appended.sequence, 5U);
  EXPECT_EQ(appended.end.sequence, 8U);
}

TEST_F(WalAppendTest, PositionsResolve) {
  open();
  append(3);
  Batch batch;
  batch.put("3", "x");
  batch.put("4", "y");
  const auto appended = ok(wal_->append(batch));
  ok(wal_->rotate());
  append(1);
  const auto entries = read();
  ASSERT_EQ(entries.size(), 6U);
  for (const auto& entry : entries) {
    EXPECT_EQ(read(entry.position).front().key, entry.key);
    const auto behind = read(entry.end);
    EXPECT_EQ(behind.size(), entries.size() - entry.sequence - 1);
    const auto frame = read(FramePlace{entry.position.segment_id, entry.position.offset});
    EXPECT_EQ(frame.front().sequence, entry.sequence == 4 ? 3U : entry.sequence);
  }
  EXPECT_EQ(entries[3].position.offset, appended.position.offset);
  EXPECT_EQ(entries[4].end.offset, appended.end.offset);
  EXPECT_EQ(entries[5].position.segment_id, 1U);
}

TEST_F(WalAppendTest, ABatchEndsWithItsLastRecord) {
  open();
  append(1);
  Batch batch;
  batch.put("1", "x");
  batch.put("2", "y");
  batch.put("3", "z");
  ok(wal_->append(batch));
  append(1);
  std::string ends;
  for (const auto& entry : read()) {
    ends += entry.ends_batch ? '1' : '0';
  }
  EXPECT_EQ(ends, "10011");
}

TEST_F(WalAppendTest, AnEmptyBatchIsRefused) {
  open();
  EXPECT_EQ(code_of(wal_->append(Batch{})), "invalid_argument");
  EXPECT_EQ(code_of(wal_->try_append(Batch{})), "invalid_argument");
  EXPECT_EQ(wal_->current_position().sequence, 0U);
}

TEST_F(WalAppendTest, KeysAndValuesAreBytesAndMayBeEmpty) {
  std::string all_bytes;
  for (int i = 0; i < 256; ++i) {
    all_bytes.push_back(static_cast<char>(i));
  }
  open();
  for (const auto& [key, value] : {std::pair<std::string, std::string>{"", ""},
                                   {"key", ""},
                                   {"", "value"},
                                   {all_bytes, all_bytes}}) {
    ok(wal_->append(Record::put(key, value)));
    ok(wal_->append(Record::remove(key)));
    open_after_kill();
    const auto entries = read();
    const auto& put = entries[entries.size() - 2];
    EXPECT_EQ(put.op, Operation::put);
    EXPECT_EQ(put.key, key);
    EXPECT_EQ(put.value, value);
    EXPECT_FALSE(put.expires_at);
    EXPECT_EQ(entries.back().op, Operation::remove);
    EXPECT_EQ(entries.back().key, key);
    EXPECT_EQ(entries.back().value, "");
  }
}

TEST_F(WalAppendTest, ExpiryIsKeptToTheMillisecond) {
  open();
  const std::vector<std::int64_t> times = {-1, 0, 1, 1'700'000'000'123, 9'000'000'000'000};
  for (const auto ms : times) {
    ok(wal_->append(Record::put("key", "value", at_ms(ms))));
  }
  wal_.reset();
  open();
  const auto entries = read();
  ASSERT_EQ(entries.size(), times.size());
  for (std::size_t i = 0; i < times.size(); ++i) {
    EXPECT_EQ(entries[i].expires_at, at_ms(times[i]));
  }
}

TEST_F(WalAppendTest, TimeNeverGoesBack) {
  disk_.set_now_ms(5000);
  open();
  append(1);
  disk_.set_now_ms(4000);
  append(1);
  wal_.reset();
  open();
  append(1);
  disk_.set_now_ms(6000);
  append(1);
  const auto entries = read();
  EXPECT_EQ(entries[0].time, at_ms(5000));
  EXPECT_EQ(entries[1].time, at_ms(5000));
  EXPECT_EQ(entries[2].time, at_ms(5000));
  EXPECT_EQ(entries[3].time, at_ms(6000));
}

TEST_F(WalAppendTest, WhatNoFrameHoldsIsTooLarge) {
  // Never touched: sizes are judged before bytes are read.
  constexpr std::size_t kBytes = 4 * kGiB;
  void* memory =
      ::mmap(nullptr, kBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  open();
  append(1);
  const std::string_view large(static_cast<const char*>(memory), kBytes);
  EXPECT_EQ(code_of(wal_->append(Record::put("key", large))), "too_large");
  EXPECT_EQ(code_of(wal_->append(Record::remove(large))), "too_large");
  EXPECT_EQ(code_of(wal_->try_append(Record::put(large, large))), "too_large");
  append(1);
  expect_records(0, 2);
  ::munmap(memory, kBytes);
}

TEST_F(WalAppendTest, ALargeFrameThatEndsABlockIsFollowedByNoPadding) {
  open();
  constexpr std::uint64_t kBlock = 4096;
  const auto first = ok(wal_->append(Record::put("key", std::string(20'000, 'v'))));
  EXPECT_NE(wal_->current_position().offset, first.end.offset);
  const auto overhead = first.end.offset - first.position.offset - 20'000;
  const auto begin = wal_->current_position().offset + overhead;
  const auto value_bytes = (begin + 20'000 + kBlock) / kBlock * kBlock - begin;
  const auto second = ok(wal_->append(Record::put("key", std::string(value_bytes, 'v'))));
  ASSERT_EQ(second.end.offset % kBlock, 0U);
  EXPECT_EQ(wal_->current_position().offset, second.end.offset);
  EXPECT_EQ(read().size(), 2U);
}

TEST_F(WalAppendTest, AlwaysReturnsDurable) {
  options_.fsync = FsyncPolicy::always();
  open();
  for (int i = 0; i < 3; ++i) {
    append(1);
    EXPECT_EQ(wal_->durable_position(), wal_->current_position());
  }
  open_after_power_cut();
  expect_records(0, 3);
}

TEST_F(WalAppendTest, ASingleAppendMayAskForMore) {
  open();
  append(2);
  EXPECT_EQ(wal_->durable_position().sequence, 0U);
  ok(wal_->append(Record::put("2", value_of(2, 10)), Durability::durable));
  EXPECT_EQ(wal_->durable_position().sequence, 3U);
  append(2);
  open_after_power_cut();
  expect_records(0, 3);
}

TEST_F(WalAppendTest, SyncAndWaitDurableCoverWhatTheySay) {
  open();
  append(3);
  const auto third = wal_->current_position();
  append(2);
  ok(wal_->wait_durable(third));
  EXPECT_GE(wal_->durable_position(), third);
  const auto flushes = wal_->stats().flushes;
  ok(wal_->wait_durable(third));
  EXPECT_EQ(wal_->stats().flushes, flushes) << "nothing was left to do";
  ok(wal_->sync());
  EXPECT_EQ(wal_->durable_position(), wal_->current_position());
  open_after_power_cut();
  expect_records(0, 5);
}

TEST_F(WalAppendTest, BeyondTheEndNothingIsWaitedFor) {
  open();
  EXPECT_EQ(code_of(wal_->wait_durable({.sequence = 1})), "invalid_argument");
  append(3);
  EXPECT_EQ(code_of(wal_->wait_durable({.sequence = 4})), "invalid_argument");
  EXPECT_EQ(code_of(wal_->wait_durable({.sequence = 3})), "ok");
}

TEST_F(WalAppendTest, WithAFullRingTryAppendIsBusyAndAppendWaits) {
  open();
  std::string_view code;
  std::uint64_t records = 0;
  const std::string value(1000, 'v');
  while ((code = code_of(wal_->try_append(Record::put("key", value)))) == "ok") {
    ASSERT_LT(++records, 100U) << "more than the ring holds";
  }
  EXPECT_EQ(code, "busy");
  EXPECT_EQ(wal_->current_position().sequence, records);
  EXPECT_EQ(code_of(wal_->try_append(Record::put("key", value))), "busy");
  ok(wal_->append(Record::put("key", value)));
  ok(wal_->try_append(Record::put("key", value)));
  EXPECT_GT(wal_->stats().ring_waits, 0U);
  EXPECT_EQ(read().size(), records + 2);
}

TEST_F(WalAppendTest, TryAppendDoesNotWaitForASlowDisk) {
  options_.background_thread = true;
  disk_.set_latency(
      [](On operation) { return operation == On::write ? milliseconds{50} : milliseconds{0}; });
  open();
  append(1);  // what begins an epoch is waited for
  const std::string value(8000, 'v');
  std::uint64_t busy = 0;
  std::uint64_t records = 1;
  for (int i = 0; i < 60; ++i) {
    const auto appended = wal_->try_append(Record::put("key", value));
    if (appended) {
      ++records;
    } else {
      EXPECT_EQ(code_of(appended), "busy");
      ++busy;
    }
  }
  EXPECT_GT(busy, 0U);
  disk_.set_latency({});
  ok(wal_->append(Record::put("key", value)));
  EXPECT_EQ(read().size(), records + 1);
}

TEST_F(WalAppendTest, AfterAFailedWriteTheLogTakesNoMore) {
  open();
  append(3);
  ok(wal_->sync());
  append(2);
  disk_.fail_nth(On::write, 0, EIO);
  EXPECT_EQ(code_of(wal_->sync()), "io");
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(code_of(wal_->append(Record::put("a", "b"))), "io");
    EXPECT_EQ(code_of(wal_->try_append(Record::put("a", "b"))), "io");
    EXPECT_EQ(code_of(wal_->sync()), "io");
    EXPECT_EQ(code_of(wal_->wait_durable(wal_->current_position())), "io");
    EXPECT_EQ(code_of(wal_->rotate()), "io");
  }
  const auto failure = wal_->stats().failure;
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code, ErrorCode::io);
  EXPECT_EQ(failure->system_errno, EIO);
  EXPECT_EQ(read().size(), 5U) << "what was appended can be read";
  EXPECT_EQ(code_of(wal_->close()), "io");
  open();
  expect_records(0, 5);  // the ring was kept
}

TEST_F(WalAppendTest, AfterAFailedWriteNoLargeBatchIsTakenEither) {
  open();
  append(3);
  ok(wal_->sync());
  append(1);
  disk_.fail_nth(On::write, 0, EIO);
  EXPECT_EQ(code_of(wal_->sync()), "io");
  const auto message = wal_->stats().failure->message;
  // Into the room that there is, and into more.
  for (const std::size_t bytes : {20'000, 1'000'000}) {
    const auto refused = wal_->append(Record::put("large", std::string(bytes, 'x')));
    EXPECT_EQ(code_of(refused), "io");
    EXPECT_EQ(refused.error().message, message);
  }
  EXPECT_EQ(read().size(), 4U);
  open();
  expect_records(0, 4);
}

// Goal: a record that goes past the ring is there, or refused and the log goes on, or the log takes
// no more; what was durable before is there in any case.
// Method: sizes at which a write ends within the value, within the header of the padding behind it,
// and with its zeros; each write fails, for want of space or not, and then perhaps what takes back
// what was written of it.
TEST_F(WalAppendTest, AWritePastTheRingFailsAtEveryCall) {
  // The frame begins a block. Beside the value it takes 52 bytes.
  constexpr std::size_t kWrite = 256 * kKiB;
  options_.segment_bytes = 4 * kMiB;
  int directory = 0;
  for (const std::size_t bytes : {std::size_t{600'000}, kWrite - 20 - 52, kWrite - 100 - 52}) {
    for (const bool behind_another : {false, true}) {
      for (const int error : {EIO, ENOSPC}) {
        for (const auto& second : {std::optional<On>{}, std::optional(On::truncate),
                                   std::optional(On::sync), std::optional(On::write)}) {
          for (std::uint64_t n = 0; n < 6; ++n) {
            SCOPED_TRACE(fmt::format("{} bytes, errno {}, call {}", bytes, error, n));
            options_.directory = fmt::format("log {}", ++directory);
            open();
            append(2);
            ok(wal_->sync());
            append(behind_another ? 1 : 0);
            const Sequence before = behind_another ? 3 : 2;
            const auto hits = disk_.faults_hit();
            disk_.fail_nth(On::write, n, error);
            if (second == On::write) {
              disk_.fail_nth(On::write, n + 1, EIO);
            } else if (second) {
              disk_.fail_nth(*second, 0, EIO);
            }
            const auto appended = wal_->append(Record::put("large", std::string(bytes, 'x')));
            const bool struck = disk_.faults_hit() != hits;
            disk_.clear_faults();
            const auto code = code_of(appended);
            const bool failed = wal_->stats().failure.has_value();
            EXPECT_EQ(failed, code == "io");
            if (!struck) {
              EXPECT_EQ(code, "ok");
            } else if (error == EIO || second) {
              EXPECT_TRUE(code == "io" || (code == "no_space" && error == ENOSPC)) << code;
            } else {
              EXPECT_EQ(code, "no_space");
            }
            if (!failed) {
              const Sequence end = before + (code == "ok" ? 1 : 0);
              EXPECT_EQ(wal_->current_position().sequence, end);
              EXPECT_EQ(read().size(), end);
              ok(wal_->append(Record::put("next", "")));
              ok(wal_->sync());
              open_after_power_cut();
              EXPECT_EQ(recovery_.next_sequence, end + 1);
              EXPECT_EQ(read().back().key, "next");
            } else {
              EXPECT_EQ(code_of(wal_->append(Record::put("next", ""))), "io");
              open_after_power_cut();
              EXPECT_GE(recovery_.next_sequence, 2U);
              EXPECT_LE(recovery_.next_sequence, before + 1);
              EXPECT_EQ(read().size(), recovery_.next_sequence);
            }
            if (!struck || HasFailure()) {
              break;
            }
          }
        }
      }
    }
  }
}

// Blocks are filled with zeros ahead of small durable appends, by the background.
TEST_F(WalAppendTest, FillingBlocksAheadFailsAtEveryCall) {
  options_.segment_bytes = 16 * kMiB;
  options_.ring_bytes = kMiB;
  options_.background_thread = true;
  int directory = 0;
  for (const auto operation : {On::allocate, On::write, On::sync}) {
    for (const int error : {EIO, ENOSPC}) {
      for (std::uint64_t n = 0; n < 4; ++n) {
        SCOPED_TRACE(
            fmt::format("{}, errno {}, call {}", testing::operation_name(operation), error, n));
        options_.directory = fmt::format("log {}", ++directory);
        open();
        append(400, 1000);
        ok(wal_->sync());
        const auto hits = disk_.faults_hit();
        disk_.fail_nth(operation, n, error);
        Sequence durable = 400;
        std::string_view code = "ok";
        for (int i = 0; i < 40 && code == "ok" && disk_.faults_hit() == hits; ++i) {
          code = code_of(wal_->append(Record::put("k", "v"), Durability::durable));
          durable += code == "ok" ? 1 : 0;
          std::this_thread::sleep_for(std::chrono::microseconds{500});
        }
        disk_.clear_faults();
        EXPECT_TRUE(code == "ok" || code == "io" || code == "no_space") << code;
        const auto failure = wal_->stats().failure;
        if (failure) {
          EXPECT_EQ(failure->code, ErrorCode::io);
          EXPECT_EQ(failure->system_errno, error);
          EXPECT_TRUE(error == EIO || operation == On::sync) << failure->message;
          EXPECT_EQ(code_of(wal_->append(Record::put("k", "v"))), "io");
        } else if (code == "ok") {
          ok(wal_->append(Record::put("k", "v"), Durability::durable));
          ++durable;
        }
        open_after_power_cut();
        EXPECT_GE(recovery_.next_sequence, durable);
      }
    }
  }
}

// Every size class, in every way a log may work: below a block, beyond a quarter of the ring, of
// the ring, of the segment.
struct Shape {
  std::string_view name;
  std::uint64_t ring_bytes;
  Padding padding;
  IoMode io;
};
class WalShapesTest : public WalTest, public ::testing::WithParamInterface<Shape> {
 protected:
  WalShapesTest() {
    options_.ring_bytes = GetParam().ring_bytes;
    options_.padding = GetParam().padding;
    options_.io = GetParam().io;
  }
};

INSTANTIATE_TEST_SUITE_P(
    Shapes, WalShapesTest,
    ::testing::Values(Shape{"Direct", 64 * kKiB, Padding::block, IoMode::direct},
                      Shape{"Buffered", 64 * kKiB, Padding::block, IoMode::buffered},
                      Shape{"DirectUnpadded", 64 * kKiB, Padding::none, IoMode::direct},
                      Shape{"BufferedUnpadded", 64 * kKiB, Padding::none, IoMode::buffered},
                      Shape{"NoRing", WalOptions::kNoRing, Padding::block, IoMode::automatic},
                      Shape{"NoRingUnpadded", WalOptions::kNoRing, Padding::none,
                            IoMode::automatic}),
    [](const auto& of) { return std::string(of.param.name); });

TEST_P(WalShapesTest, RecordsOfEverySizeComeBack) {
  const std::vector<std::size_t> sizes = {0,     1,     100,   4000,  4053,   4054,   4055,   4096,
                                          8192,  16341, 16383, 16384, 16385,  40000,  65535,  65536,
                                          65537, 70000, 0,     1,     200000, 131072, 400000, 3};
  std::vector<std::string> written;
  const auto expect_all = [&] {
    const auto entries = read();
    ASSERT_EQ(entries.size(), written.size());
    for (std::size_t i = 0; i < entries.size(); ++i) {
      ASSERT_TRUE(entries[i].value == written[i]) << i << ": " << written[i].size() << " bytes";
    }
  };
  open();
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    written.push_back(value_of(i, sizes[i]));
    const auto durability = i % 3 == 0 ? Durability::durable : Durability::policy;
    ok(wal_->append(Record::put(fmt::format("{}", i), written.back()), durability));
    if (i % 7 == 6) {
      open_after_kill();
      expect_all();
    }
  }
  expect_all();
  ok(wal_->sync());
  open_after_power_cut();
  expect_all();
  wal_.reset();
  open();
  EXPECT_TRUE(recovery_.closed_cleanly);
  expect_all();
  EXPECT_FALSE(disk_.mixed_io_seen());
  if (GetParam().padding == Padding::block && GetParam().ring_bytes != 0) {
    EXPECT_EQ(disk_.durable_bytes_changed(), 0U);
  }
}

TEST_P(WalShapesTest, ManySmallRecordsFillManySegments) {
  open();
  for (int i = 0; i < 10; ++i) {
    append(200, 100);
    ok(wal_->sync());
  }
  EXPECT_GE(wal_->stats().segments, 3U);
  expect_records(0, 2000, 100);
  append(5, 100);
  open_after_kill();
  expect_records(0, 2005, 100);
  open_after_power_cut();
  expect_records(0, 2005, 100);
}

TEST_P(WalShapesTest, ABatchLargerThanASegmentGetsOneOfItsOwn) {
  open();
  append(3);
  Batch batch;
  for (int i = 0; i < 3000; ++i) {
    batch.put(fmt::format("{}", i), "a value of some forty bytes and a few more");
  }
  ASSERT_GT(batch.encoded().size(), options_.segment_bytes);
  const auto appended = ok(wal_->append(batch, Durability::durable));
  EXPECT_EQ(appended.sequence, 3U);
  EXPECT_EQ(appended.end.sequence, 3003U);
  const auto behind = ok(wal_->append(Record::put("behind", "")));
  EXPECT_GT(behind.position.segment_id, appended.position.segment_id);
  EXPECT_GT(appended.position.segment_id, 0U);
  EXPECT_EQ(read().size(), 3004U);
  open_after_power_cut();
  const auto entries = read();
  ASSERT_GE(entries.size(), 3003U);
  for (std::size_t i = 3; i < 3003; ++i) {
    EXPECT_EQ(entries[i].ends_batch, i == 3002);
  }
}

// --- read ----------------------------------------------------------------------------------------

class WalReadTest : public WalTest {
 protected:
  // Records 0..9 in segments 0, 1, 2 (4, 3, 3), at the times 1000, 1100, ...
  void fill() {
    disk_.set_now_ms(1000);
    open();
    for (Sequence sequence = 0; sequence < 10; ++sequence) {
      if (sequence == 4 || sequence == 7) {
        ok(wal_->rotate());
      }
      append(1);
      disk_.advance_ms(100);
    }
  }
  [[nodiscard]] Sequence first_of(ReadFrom from) { return read(from).front().sequence; }
};

TEST_F(WalReadTest, FromTheBeginAcrossAllSegments) {
  fill();
  EXPECT_EQ(wal_->stats().segments, 3U);
  expect_records(0, 10);
  open_after_kill();
  expect_records(0, 10);
  wal_.reset();
  open();
  expect_records(0, 10);
}

TEST_F(WalReadTest, FromEachSequence) {
  fill();
  for (Sequence sequence = 0; sequence < 10; ++sequence) {
    EXPECT_EQ(first_of(sequence), sequence);
    EXPECT_EQ(first_of(Position{.segment_id = 99, .offset = 1, .sequence = sequence}), sequence);
    EXPECT_EQ(read(sequence).size(), 10 - sequence);
  }
  EXPECT_TRUE(read(Sequence{10}).empty());
}

TEST_F(WalReadTest, FromBeyondTheEndWaitsForThatSequence) {
  fill();
  auto reader = ok(wal_->read_from(Sequence{12}));
  EXPECT_FALSE(ok(reader.next()));
  append(4);
  EXPECT_EQ(ok(reader.next())->sequence, 12U);
  EXPECT_EQ(ok(reader.next())->sequence, 13U);
  EXPECT_FALSE(ok(reader.next()));
}

TEST_F(WalReadTest, FromATime) {
  fill();
  EXPECT_EQ(first_of(at_ms(-1)), 0U) << "before 1970";
  EXPECT_EQ(first_of(at_ms(0)), 0U);
  EXPECT_EQ(first_of(at_ms(1000)), 0U);
  EXPECT_EQ(first_of(at_ms(1001)), 1U);
  EXPECT_EQ(first_of(at_ms(1400)), 4U);
  EXPECT_EQ(first_of(at_ms(1650)), 7U);
  EXPECT_EQ(first_of(at_ms(1900)), 9U);
  EXPECT_TRUE(read(at_ms(1901)).empty());
  EXPECT_EQ(read(at_ms(1250)).size(), 7U) << "and all that follow";
}

TEST_F(WalReadTest, PositionAtATime) {
  fill();
  EXPECT_EQ(ok(wal_->position_at(at_ms(0))).sequence, 0U);
  EXPECT_EQ(ok(wal_->position_at(at_ms(1401))).sequence, 5U);
  EXPECT_EQ(ok(wal_->position_at(at_ms(9999))), wal_->current_position());
  open();
  EXPECT_EQ(ok(wal_->position_at(at_ms(1401))).sequence, 5U);
  EXPECT_EQ(ok(wal_->position_at(at_ms(9999))), wal_->current_position());
}

TEST_F(WalReadTest, WhereNoFrameBeginsIsNotARecord) {
  fill();
  const auto entry = read().front();
  const auto code_at = [&](std::uint64_t segment_id, std::uint64_t offset) {
    return code_of(wal_->read_from(FramePlace{segment_id, offset}));
  };
  EXPECT_EQ(code_at(0, entry.position.offset), "ok");
  EXPECT_EQ(code_at(0, entry.position.offset + 1), "not_a_record");
  EXPECT_EQ(code_at(0, 0), "not_a_record");
  EXPECT_EQ(code_at(0, 1'000'000'000'000), "not_a_record");
  EXPECT_EQ(code_at(0, ~std::uint64_t{0}), "not_a_record");
  EXPECT_EQ(code_at(77, 4096), "not_a_record");
  EXPECT_EQ(code_at(~std::uint64_t{0}, 4096), "not_a_record");
  const auto end = wal_->current_position();
  EXPECT_EQ(code_at(end.segment_id, end.offset), "not_a_record");
}

TEST_F(WalReadTest, WhatWasDeletedIsGone) {
  fill();
  EXPECT_EQ(ok(wal_->delete_segments_before(Position{.sequence = 7})), 2U);
  for (const auto& from : {ReadFrom{Sequence{0}}, ReadFrom{Sequence{6}},
                           ReadFrom{Position{.sequence = 3}}, ReadFrom{FramePlace{1, 4096}}}) {
    const auto reader = wal_->read_from(from);
    EXPECT_EQ(code_of(reader), "gone");
    ASSERT_TRUE(reader.error().position);
    EXPECT_EQ(reader.error().position->sequence, 7U) << "names the first left";
    EXPECT_NE(reader.error().message.find("seq:7"), std::string::npos) << reader.error().message;
  }
  EXPECT_EQ(first_of(begin_of_log), 7U);
  EXPECT_EQ(first_of(at_ms(0)), 7U);
  EXPECT_EQ(first_of(Sequence{7}), 7U);
}

TEST_F(WalReadTest, AReaderSeesWhatIsAppendedAfterIt) {
  open();
  auto reader = ok(wal_->read_from(begin_of_log));
  EXPECT_FALSE(ok(reader.next()));
  for (Sequence sequence = 0; sequence < 300; ++sequence) {
    append(1, 1000);
    const auto entry = ok(reader.next());
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->sequence, sequence);
    EXPECT_EQ(reader.position(), entry->end);
    EXPECT_FALSE(ok(reader.next()));
  }
  EXPECT_GT(wal_->stats().segments, 3U);
}

TEST_F(WalReadTest, ADurableReaderStopsAtTheMark) {
  open();
  append(3);
  EXPECT_TRUE(read(begin_of_log, {.visible = Visible::durable}).empty());
  auto reader = ok(wal_->read_from(begin_of_log, {.visible = Visible::durable}));
  EXPECT_FALSE(ok(reader.next()));
  ok(wal_->sync());
  append(2);
  EXPECT_EQ(read_rest(reader).size(), 3U);
  EXPECT_EQ(read().size(), 5U);
  ok(wal_->sync());
  EXPECT_EQ(read_rest(reader).size(), 2U);
}

// A record that it could not find out about is not the next one all the same.
TEST_F(WalReadTest, ADurableReaderStopsAtTheMarkAlsoAfterAnError) {
  options_.io = IoMode::buffered;
  for (const auto ring_bytes : {options_.ring_bytes, WalOptions::kNoRing}) {
    options_.ring_bytes = ring_bytes;
    options_.directory = fmt::format("log-{}", ring_bytes);
    open();
    append(1);
    ok(wal_->sync());
    append(2);
    bool has_failed = true;
    for (std::uint64_t calls = 0; has_failed; ++calls) {
      auto reader = ok(wal_->read_from(begin_of_log, {.visible = Visible::durable}));
      using testing::Operation;
      disk_.fail_nth({Operation::open, Operation::read, Operation::status, Operation::list}, calls,
                     EIO);
      Sequence next = 0;
      has_failed = false;
      for (int tries = 0; tries < 4; ++tries) {
        const auto entry = reader.next();
        has_failed = has_failed || !entry;
        if (entry && *entry) {
          ASSERT_EQ((*entry)->sequence, next++);
        }
      }
      ASSERT_EQ(next, 1U);
      disk_.clear_faults();
    }
  }
}

TEST_F(WalReadTest, FollowWaitsAsLongAsItIsTold) {
  open();
  append(1);
  auto reader = ok(wal_->read_from(begin_of_log));
  EXPECT_TRUE(ok(reader.follow(milliseconds{0})));
  EXPECT_TRUE(ok(reader.follow(milliseconds{0}))) << "and does not take it";
  EXPECT_EQ(ok(reader.next())->sequence, 0U);
  const auto began = std::chrono::steady_clock::now();
  EXPECT_FALSE(ok(reader.follow(milliseconds{30})));
  EXPECT_GE(std::chrono::steady_clock::now() - began, milliseconds{30});
  {
    const std::jthread later([&] {
      std::this_thread::sleep_for(milliseconds{20});
      append(1);
    });
    EXPECT_TRUE(ok(reader.follow(kTooLong)));
  }
  EXPECT_EQ(ok(reader.next())->sequence, 1U);
}

TEST_F(WalReadTest, RangeForEndsAtTheEndOrAnError) {
  fill();
  auto reader = ok(wal_->read_from(Sequence{3}));
  Sequence next = 3;
  for (const auto& entry : reader) {
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->sequence, next++);
  }
  EXPECT_EQ(next, 10U);
  wal_.reset();
  ok(disk_.flip_bit("log/000001.wal", 4096 + 20, 0));
  open();
  auto damaged = ok(wal_->read_from(begin_of_log));
  std::string seen;
  for (const auto& entry : damaged) {
    seen += entry ? entry->key : std::string("!");
  }
  EXPECT_EQ(seen, "0123!");
  auto step = damaged.begin();
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(step == damaged.end());
    EXPECT_FALSE(*step) << "the damage is answered again";
    EXPECT_TRUE(++step == damaged.end());
    EXPECT_TRUE(++step == damaged.end()) << "there is nothing behind the end";
    step = damaged.begin();
  }
}

// As by a writer in another process that deletes what is no longer wanted.
class WalShrinkingTest : public WalReadTest {
 protected:
  // Does the work again and again, on the whole log, of which the first segments go at the disk's
  // 1st, 2nd, ... operation; the last time they stay.
  template <typename Work>
  void shrink_at_every_operation(std::uint64_t segments, Work work) {
    const auto all = files();
    bool struck = true;
    for (std::uint64_t n = 0; struck; ++n) {
      SCOPED_TRACE(fmt::format("{} at operation {}", segments, n));
      std::uint64_t operations = 0;
      disk_.set_latency([&](On) {
        if (operations++ == n) {
          for (std::uint64_t id = 0; id < segments; ++id) {
            ok(disk_.remove_file(fmt::format("log/00000{}.wal", id)));
          }
        }
        return std::chrono::microseconds{0};
      });
      work();
      disk_.set_latency({});
      struck = operations > n;
      for (const auto& [name, bytes] : all) {
        ok(disk_.write_file("log/" + name, bytes));
      }
    }
  }
};

// Goal: whoever reads a log while its first segments go is told of all that is left, or that what
// it wanted is gone; never of damage.
// Method: the segments go at the 1st, 2nd, ... operation of opening, reading from several places,
// asking for a position, and verify.
TEST_F(WalShrinkingTest, WhatGoesMeanwhileIsGoneAndNotDamaged) {
  fill();
  wal_.reset();
  for (const std::uint64_t segments : {1, 2}) {
    const Sequence first_left = segments == 1 ? 4 : 7;
    for (const ReadFrom& from : {ReadFrom{begin_of_log}, ReadFrom{Sequence{5}}, ReadFrom{at_ms(0)},
                                 ReadFrom{at_ms(1550)}}) {
      shrink_at_every_operation(segments, [&] {
        open(OpenMode::read_only);
        auto reader = wal_->read_from(from);
        if (!reader) {
          EXPECT_EQ(code_of(reader), "gone") << reader.error().message;
          return;
        }
        std::vector<Sequence> found;
        for (const auto& entry : *reader) {
          if (!entry) {
            EXPECT_EQ(code_of(entry), "gone") << entry.error().message;
            return;
          }
          found.push_back(entry->sequence);
        }
        ASSERT_FALSE(found.empty());
        EXPECT_LE(found.front(), std::max<Sequence>(first_left, 6));
        EXPECT_EQ(found.back(), 9U);
        EXPECT_EQ(found.size(), 10 - found.front()) << "without a hole";
      });
    }
    shrink_at_every_operation(segments, [&] {
      open(OpenMode::read_only);
      const auto position = ok(wal_->position_at(at_ms(0)));
      EXPECT_TRUE(position.sequence == 0 || position.sequence == first_left) << position.sequence;
      const auto report = ok(verify("log", &disk_));
      EXPECT_TRUE(report.damages.empty()) << report.damages.front().reason;
      EXPECT_TRUE(report.first_sequence == 0 || report.first_sequence == first_left)
          << report.first_sequence;
      EXPECT_EQ(report.next_sequence, 10U);
    });
  }
}

// A file that is listed and never there: not to be waited for, and no end of the log.
TEST_F(WalShrinkingTest, AFileThatCannotBeOpenedIsAnError) {
  fill();
  wal_.reset();
  open(OpenMode::read_only);
  disk_.inject({.operations = On::open,
                .system_errno = ENOENT,
                .repeat = testing::Repeat::forever,
                .name_suffix = "000000.wal"});
  for (const ReadFrom& from : {ReadFrom{begin_of_log}, ReadFrom{Sequence{0}}}) {
    const auto reader = wal_->read_from(from);
    EXPECT_EQ(code_of(reader), "io");
    EXPECT_NE(reader.error().message.find("000000.wal"), std::string::npos);
  }
  const auto report = verify("log", &disk_);
  EXPECT_EQ(code_of(report), "io");
  EXPECT_NE(report.error().message.find("000000.wal"), std::string::npos);
  options_.verification = Verification::all;
  options_.mode = OpenMode::read_only;
  EXPECT_EQ(code_of(Wal::open(options_)), "io");
  disk_.clear_faults();
  expect_records(0, 10);
}

TEST_F(WalShrinkingTest, WithoutAnySegmentItIsNoLogAnyMore) {
  fill();
  wal_.reset();
  open(OpenMode::read_only);
  for (const auto* const name : {"log/000000.wal", "log/000001.wal", "log/000002.wal"}) {
    ok(disk_.remove_file(name));
  }
  EXPECT_EQ(code_of(wal_->read_from(begin_of_log)), "not_a_log");
  EXPECT_EQ(code_of(wal_->position_at(at_ms(0))), "not_a_log");
}

// Who is inside a deleted segment can tell its damage from its end.
TEST_F(WalShrinkingTest, DamageInADeletedSegmentIsDamage) {
  options_.ring_bytes = WalOptions::kNoRing;  // which may have the damaged frame, too
  fill();
  const auto entries = read();
  auto inside = ok(wal_->read_from(Sequence{4}));
  ok(disk_.flip_bit("log/000001.wal", entries[5].position.offset + 20, 0));
  EXPECT_EQ(ok(inside.next())->sequence, 4U);
  EXPECT_EQ(ok(wal_->delete_segments_before(wal_->current_position())), 2U);
  const auto next = inside.next();
  EXPECT_EQ(code_of(next), "damaged") << next.error().message;
  EXPECT_EQ(next.error().position->sequence, 5U);
}

TEST_F(WalReadTest, DamageIsAnsweredAgainOrSkipped) {
  fill();
  wal_.reset();
  ok(disk_.flip_bit("log/000001.wal", 4096 + 20, 0));
  open();
  auto reader = ok(wal_->read_from(Sequence{3}));
  EXPECT_EQ(ok(reader.next())->sequence, 3U);
  for (int i = 0; i < 3; ++i) {
    const auto next = reader.next();
    EXPECT_EQ(code_of(next), "damaged");
    ASSERT_TRUE(next.error().position);
    EXPECT_EQ(next.error().position->sequence, 4U);
    EXPECT_NE(next.error().message.find("000001.wal at offset 4096"), std::string::npos);
  }
  auto skipping = ok(wal_->read_from(Sequence{3}, {.skip_damaged = true}));
  EXPECT_EQ(ok(skipping.next())->sequence, 3U);
  EXPECT_EQ(code_of(skipping.next()), "damaged");
  EXPECT_EQ(ok(skipping.next())->sequence, 5U);
  EXPECT_EQ(read_rest(skipping).size(), 4U);
}

TEST_F(WalReadTest, AReaderOutlivesItsLog) {
  fill();
  auto reader = ok(wal_->read_from(begin_of_log));
  EXPECT_EQ(ok(reader.next())->sequence, 0U);
  wal_.reset();
  EXPECT_EQ(read_rest(reader).size(), 9U);
}

TEST_F(WalReadTest, ACopyOutlivesTheStep) {
  open();
  ok(wal_->append(Record::put("key", "value", at_ms(77))));
  append(1);
  auto reader = ok(wal_->read_from(begin_of_log));
  const auto entry = ok(reader.next())->copy();
  EXPECT_TRUE(ok(reader.next()));
  EXPECT_EQ(entry.key, "key");
  EXPECT_EQ(entry.value, "value");
  EXPECT_EQ(entry.expires_at, at_ms(77));
}

// --- rotate and delete ---------------------------------------------------------------------------

class WalDeleteTest : public WalTest {};

TEST_F(WalDeleteTest, RotatingAnEmptySegmentDoesNothing) {
  open();
  ok(wal_->rotate());
  ok(wal_->rotate());
  EXPECT_EQ(wal_->stats().segments, 1U);
  append(1);
  ok(wal_->rotate());
  ok(wal_->rotate());
  EXPECT_EQ(wal_->stats().segments, 2U);
  EXPECT_EQ(wal_->stats().rotations, 1U);
  open();
  ok(wal_->rotate());
  EXPECT_EQ(wal_->stats().segments, 2U);
  append(1);
  expect_records(0, 2);
}

TEST_F(WalDeleteTest, WhatLiesBeforeTheEndGoesAndTheActiveSegmentStays) {
  open();
  append(3);
  EXPECT_EQ(ok(wal_->delete_segments_before(wal_->current_position())), 0U) << "active";
  ok(wal_->rotate());
  EXPECT_EQ(ok(wal_->delete_segments_before(wal_->current_position())), 1U);
  EXPECT_TRUE(read().empty());
  append(2);
  expect_records(3, 5);
  EXPECT_EQ(ok(wal_->delete_segments_before(wal_->current_position())), 0U);
  open();
  EXPECT_EQ(wal_->stats().first_sequence, 3U);
  expect_records(3, 5);
}

TEST_F(WalDeleteTest, ASegmentStaysWhileOneOfItsRecordsIsWanted) {
  open();
  for (int i = 0; i < 3; ++i) {
    append(3);
    ok(wal_->rotate());
  }
  EXPECT_EQ(ok(wal_->delete_segments_before(Position{.sequence = 0})), 0U);
  EXPECT_EQ(ok(wal_->delete_segments_before(Position{.sequence = 2})), 0U);
  EXPECT_EQ(ok(wal_->delete_segments_before(Position{.sequence = 3})), 1U);
  EXPECT_EQ(ok(wal_->delete_segments_before(Position{.sequence = 8})), 1U);
  expect_records(6, 9);
}

TEST_F(WalDeleteTest, BeyondTheEndNothingIsDeleted) {
  open();
  append(3);
  ok(wal_->rotate());
  EXPECT_EQ(code_of(wal_->delete_segments_before(Position{.sequence = 4})), "invalid_argument");
  expect_records(0, 3);
}

// A deletion never runs ahead: what it was asked to is durable first.
TEST_F(WalDeleteTest, DeletionMakesDurableWhatLiesBeforeIt) {
  open();
  append(3);
  ok(wal_->rotate());
  append(2);
  EXPECT_EQ(ok(wal_->delete_segments_before(wal_->current_position())), 1U);
  EXPECT_EQ(wal_->durable_position().sequence, 5U);
  open_after_power_cut();
  expect_records(3, 5);
}

TEST_F(WalDeleteTest, AFailureLeavesASuffix) {
  for (std::uint64_t failing = 0; failing < 2; ++failing) {
    options_.directory = fmt::format("log {}", failing);
    open();
    for (int i = 0; i < 4; ++i) {
      append(3);
      ok(wal_->rotate());
    }
    disk_.fail_nth(On::remove, failing, EIO);
    EXPECT_EQ(code_of(wal_->delete_segments_before(wal_->current_position())), "io");
    expect_records(3 * failing, 12);
    append(1);
    EXPECT_EQ(ok(wal_->delete_segments_before(wal_->current_position())), 4 - failing);
    expect_records(12, 13);
  }
}

// Nothing is deleted that is not known to be durable.
TEST_F(WalDeleteTest, OnAFullDiskWhatHasNoFooterStays) {
  for (const std::uint64_t broken_at : {std::uint64_t{40}, std::uint64_t{0}}) {
    SCOPED_TRACE(broken_at == 0 ? "footer" : "header");
    options_.directory = fmt::format("log {}", broken_at);
    disk_.set_capacity_bytes(kCapacityBytes);
    open();
    for (int i = 0; i < 2; ++i) {
      append(3);
      ok(wal_->rotate());
    }
    append(3);
    disk_.crash_process();
    const auto first = fmt::format("log {}/000000.wal", broken_at);
    const auto bytes = ok(disk_.read_file(first)).size();
    ok(disk_.flip_bit(first, broken_at == 0 ? bytes - 1 : broken_at, 0));
    leave_free(0);
    disk_.writes_may_hit_no_space(true);
    open();
    for (std::uint64_t n = 0;; ++n) {
      const auto hits = disk_.faults_hit();
      disk_.fail_nth({On::open, On::read, On::status}, n, EIO);
      const auto deleted = wal_->delete_segments_before(wal_->current_position());
      disk_.clear_faults();
      if (disk_.faults_hit() == hits) {
        EXPECT_EQ(code_of(deleted), "no_space");
        break;
      }
      EXPECT_TRUE(code_of(deleted) == "io" || code_of(deleted) == "no_space");
    }
    EXPECT_EQ(wal_->stats().segments, 3U);
    disk_.writes_may_hit_no_space(false);
    disk_.set_capacity_bytes(kCapacityBytes);
    EXPECT_EQ(ok(wal_->delete_segments_before(wal_->current_position())), 2U);
    expect_records(6, 9);
  }
}

// A disk without room for the name of the cursors' lock: no cursor can be written there either, and
// deleting is what makes room.
TEST_F(WalDeleteTest, OnADiskWithoutRoomForALockSegmentsAreDeleted) {
  open();
  for (int i = 0; i < 2; ++i) {
    append(3);
    ok(wal_->rotate());
  }
  disk_.fail_nth(On::lock, 0, ENOSPC);
  EXPECT_EQ(ok(wal_->delete_segments_before(wal_->current_position())), 2U);
  EXPECT_EQ(disk_.faults_hit(), 1U);
  append(1);
  expect_records(6, 7);
}

TEST_F(WalDeleteTest, ADeletedSegmentStaysReadableToWhoIsInIt) {
  options_.ring_bytes = WalOptions::kNoRing;  // which may have the next one's records, too
  open();
  append(3);
  ok(wal_->rotate());
  append(3);
  ok(wal_->rotate());
  auto inside = ok(wal_->read_from(begin_of_log));
  EXPECT_EQ(ok(inside.next())->sequence, 0U);
  EXPECT_EQ(ok(wal_->delete_segments_before(wal_->current_position())), 2U);
  EXPECT_EQ(ok(inside.next())->sequence, 1U);
  EXPECT_EQ(ok(inside.next())->sequence, 2U);
  EXPECT_EQ(code_of(inside.next()), "gone");
}

// --- stats ---------------------------------------------------------------------------------------

class WalStatsTest : public WalTest {};

TEST_F(WalStatsTest, CountWhatWasDone) {
  open();
  auto stats = wal_->stats();
  EXPECT_EQ(stats.segments, 1U);
  EXPECT_EQ(stats.first_sequence, 0U);
  EXPECT_EQ(stats.next_sequence, 0U);
  EXPECT_EQ(stats.block_bytes, 4096U);
  EXPECT_EQ(stats.ring_bytes, 64 * kKiB);
  EXPECT_EQ(stats.ring_reason, "mapped ring");
  EXPECT_EQ(stats.io, IoMode::direct);
  EXPECT_FALSE(stats.io_reason.empty());
  EXPECT_FALSE(stats.failure);

  append(3);
  stats = wal_->stats();
  EXPECT_EQ(stats.records_appended, 3U);
  EXPECT_EQ(stats.next_sequence, 3U);
  EXPECT_EQ(stats.durable_sequence, 0U);
  EXPECT_GT(stats.bytes_appended, 30U);
  EXPECT_EQ(stats.ring_bytes_used, stats.bytes_appended);
  EXPECT_EQ(stats.flushes, 0U);

  ok(wal_->sync());
  stats = wal_->stats();
  EXPECT_EQ(stats.durable_sequence, 3U);
  EXPECT_EQ(stats.flushes, 1U);
  EXPECT_EQ(stats.ring_bytes_used, 0U);
  EXPECT_EQ((stats.bytes_appended + stats.bytes_padding) % 4096, 0U);

  ok(wal_->rotate());
  append(2);
  stats = wal_->stats();
  EXPECT_EQ(stats.rotations, 1U);
  EXPECT_EQ(stats.segments, 2U);
  EXPECT_EQ(stats.active_segment_id, 1U);
  std::uint64_t bytes = 0;
  for (const auto& [name, content] : files()) {
    bytes += name.ends_with(".wal") ? content.size() : 0;
  }
  EXPECT_EQ(stats.bytes_on_disk, bytes);

  ok(wal_->delete_segments_before(wal_->current_position()));
  stats = wal_->stats();
  EXPECT_EQ(stats.segments, 1U);
  EXPECT_EQ(stats.first_sequence, 3U);
}

TEST_F(WalStatsTest, WhetherAWriterHasMadeItDurableIsReadOrTold) {
  open();
  append(5);
  ok(wal_->sync());
  append(5);
  auto options = options_;
  options.mode = OpenMode::read_only;
  auto reading = ok(Wal::open(options));
  EXPECT_EQ(code_of(reading.wal.wait_durable({.sequence = 10})), "invalid_argument");
  ok(wal_->sync());
  for (const auto operation : {On::open, On::read, On::status, On::list}) {
    for (std::uint64_t after = 0;; ++after) {
      const auto hits = disk_.faults_hit();
      disk_.fail_nth(operation, after, EIO);
      const auto waited = reading.wal.wait_durable({.sequence = 10});
      disk_.clear_faults();
      if (disk_.faults_hit() == hits) {
        ok(waited);
        break;
      }
      EXPECT_EQ(code_of(waited), "io") << testing::operation_name(operation) << " " << after;
    }
  }
}

TEST_F(WalStatsTest, ARingThatCannotBeReadIsNotTakenForAClosedLog) {
  open();
  append(3);
  disk_.crash_process();
  open(OpenMode::read_only);
  EXPECT_EQ(wal_->stats().ring_reason, "a writer's, running or killed");
  disk_.inject({.operations = On::open, .name_suffix = "ring"});
  const auto stats = wal_->stats();
  EXPECT_EQ(stats.ring_bytes, 0U);
  EXPECT_NE(stats.ring_reason.find("are not seen"), std::string::npos) << stats.ring_reason;
}

TEST_F(WalStatsTest, AReadOnlyLogTellsTheSame) {
  open();
  append(3);
  ok(wal_->sync());
  append(2);
  auto options = options_;
  options.mode = OpenMode::read_only;
  {
    auto wal = ok(Wal::open(options)).wal;
    const auto stats = wal.stats();
    EXPECT_EQ(stats.segments, 1U);
    EXPECT_EQ(stats.next_sequence, 5U);
    EXPECT_EQ(stats.durable_sequence, 3U);
    ok(wal.sync());  // it has appended nothing
    EXPECT_EQ(wal.durable_position().sequence, 3U);
    EXPECT_EQ(stats.ring_bytes, 64 * kKiB);
  }
  wal_.reset();
  const auto stats = ok(Wal::open(options)).wal.stats();
  EXPECT_EQ(stats.next_sequence, 5U);
  EXPECT_EQ(stats.durable_sequence, 5U);
  EXPECT_EQ(stats.ring_bytes, 0U);
}

// --- close ---------------------------------------------------------------------------------------

class WalCloseTest : public WalTest {};

TEST_F(WalCloseTest, EverythingIsDurableAndTheRingIsGone) {
  open();
  append(3);
  ok(wal_->close());
  const auto names = ok(disk_.list_files("log"));
  EXPECT_EQ(std::ranges::count(names, "ring"), 0);
  wal_.reset();
  open_after_power_cut();
  EXPECT_TRUE(recovery_.closed_cleanly);
  expect_records(0, 3);
}

TEST_F(WalCloseTest, AfterwardsEveryCallAnswersClosed) {
  for (const bool has_written : {false, true}) {
    open();
    if (has_written) {
      append(3);
    }
    const auto end = wal_->current_position();
    ok(wal_->close());
    Batch batch;
    batch.put("a", "b");
    EXPECT_EQ(code_of(wal_->append(Record::put("a", "b"))), "closed");
    EXPECT_EQ(code_of(wal_->append(batch)), "closed");
    EXPECT_EQ(code_of(wal_->try_append(Record::put("a", "b"))), "closed");
    EXPECT_EQ(code_of(wal_->try_append(batch)), "closed");
    EXPECT_EQ(code_of(wal_->sync()), "closed");
    EXPECT_EQ(code_of(wal_->wait_durable(end)), "closed");
    EXPECT_EQ(code_of(wal_->rotate()), "closed");
    EXPECT_EQ(code_of(wal_->delete_segments_before(end)), "closed");
    EXPECT_EQ(code_of(wal_->apply_retention()), "closed");
    EXPECT_EQ(code_of(wal_->deletable_before(end)), "closed");
    EXPECT_EQ(code_of(wal_->compact()), "closed");
    EXPECT_EQ(code_of(wal_->position_at(at_ms(0))), "closed");
    EXPECT_EQ(code_of(wal_->read_from(begin_of_log)), "closed");
    EXPECT_EQ(code_of(wal_->close()), "closed");
    EXPECT_EQ(code_of_open(), "ok") << "the lock is released";
  }
}

TEST_F(WalCloseTest, OnAnErrorTheLogIsReleasedAllTheSame) {
  open();
  append(3);
  disk_.fail_nth(On::write, 0, EIO);
  EXPECT_EQ(code_of(wal_->close()), "io");
  EXPECT_EQ(code_of(wal_->append(Record::put("a", "b"))), "closed");
  open();
  EXPECT_FALSE(recovery_.closed_cleanly);
  expect_records(0, 3);
}

TEST_F(WalCloseTest, AssigningAnotherLogClosesTheOneBefore) {
  open();
  append(1);
  options_.directory = "other";
  auto other = ok(Wal::open(options_)).wal;
  ok(other.append(Record::put("0", value_of(0, 10))));
  *wal_ = std::move(other);
  append(1);
  expect_records(0, 2);
  auto& itself = *wal_;
  *wal_ = std::move(itself);
  append(1);
  expect_records(0, 3);
  options_.directory = "log";
  open();
  EXPECT_TRUE(recovery_.closed_cleanly);
  expect_records(0, 1);
}

TEST_F(WalCloseTest, AMovedLogGoesOn) {
  open();
  append(1);
  Wal moved = std::move(*wal_);
  wal_.emplace(std::move(moved));
  append(1);
  expect_records(0, 2);
}

// --- the batch window ----------------------------------------------------------------------------

class WalBatchWindowTest : public WalTest {};

TEST_F(WalBatchWindowTest, TheLastAppendIsFlushedWithoutAnother) {
  options_.background_thread = true;
  options_.fsync = FsyncPolicy::batch(milliseconds{5});
  open();
  for (int burst = 0; burst < 3; ++burst) {
    append(3);
    const auto end = wal_->current_position();
    const auto deadline = std::chrono::steady_clock::now() + kTooLong;
    while (wal_->durable_position() < end && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(milliseconds{1});
    }
    EXPECT_EQ(wal_->durable_position(), end);
  }
  disk_.power_cut(1, {.survival = Survival::nothing});
  open();
  expect_records(0, 9);
}

TEST_F(WalBatchWindowTest, AFlushThatFoundNoSpaceIsTriedAgain) {
  options_.background_thread = true;
  options_.fsync = FsyncPolicy::batch(milliseconds{5});
  open();
  append(1);
  disk_.writes_may_hit_no_space(true);
  append(1);
  std::this_thread::sleep_for(milliseconds{30});
  EXPECT_EQ(code_of(wal_->sync()), "no_space");
  disk_.writes_may_hit_no_space(false);
  const auto end = wal_->current_position();
  const auto deadline = std::chrono::steady_clock::now() + kTooLong;
  while (wal_->durable_position() < end && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds{1});
  }
  EXPECT_EQ(wal_->durable_position(), end);
}

// --- a full disk ---------------------------------------------------------------------------------

class WalFullDiskTest : public WalTest {
 protected:
  // Appends until the disk is full. Returns how many records that were.
  std::uint64_t append_until_full(std::size_t value_bytes = 1000) {
    std::uint64_t records = 0;
    for (;; ++records) {
      const auto sequence = wal_->current_position().sequence;
      const auto appended =
          wal_->append(Record::put(fmt::format("{}", sequence), value_of(sequence, value_bytes)));
      if (!appended) {
        EXPECT_EQ(code_of(appended), "no_space") << appended.error().message;
        EXPECT_FALSE(appended.error().position) << "nothing was appended";
        EXPECT_EQ(wal_->current_position().sequence, sequence);
        return records;
      }
      if (records > 10'000) {
        ADD_FAILURE() << "the disk is never full";
        return records;
      }
    }
  }
};

TEST_F(WalFullDiskTest, AppendsAnswerNoSpaceAndWorkAgain) {
  options_.segment_bytes = 4 * kMiB;
  open();
  append(1, 1000);
  leave_free(0);
  auto records = 1 + append_until_full();
  EXPECT_GT(records, 10U) << "what was allocated can be filled";
  ok(wal_->sync());
  expect_records(0, records, 1000);
  EXPECT_EQ(append_until_full(), 0U);
  EXPECT_FALSE(wal_->stats().failure);
  leave_free(kMiB);
  append(3, 1000);
  records += 3;
  open_after_kill();
  expect_records(0, records, 1000);
}

// The steps in which space is prepared have grown large by then.
TEST_F(WalFullDiskTest, TheLastOfTheSpaceIsUsedUpInSmallSteps) {
  options_.segment_bytes = 64 * kMiB;
  options_.ring_bytes = kMiB;
  open();
  append(20'000, 1000);
  leave_free(0);
  append_until_full(100'000);
  append_until_full();
  leave_free(2 * kMiB);
  EXPECT_GT(append_until_full(), 1900U);
  // In the next segment likewise.
  leave_free(2 * kMiB);
  ok(wal_->rotate());
  EXPECT_GT(append_until_full(), 1900U);
  const auto records = wal_->current_position().sequence;
  open_after_kill();
  EXPECT_EQ(recovery_.next_sequence, records);
}

TEST_F(WalFullDiskTest, WithoutARingLikewise) {
  options_.segment_bytes = 4 * kMiB;
  options_.ring_bytes = WalOptions::kNoRing;
  open();
  append(1, 1000);
  leave_free(0);
  auto records = 1 + append_until_full();
  leave_free(kMiB);
  append(3, 1000);
  records += 3;
  open_after_kill();
  expect_records(0, records, 1000);
}

TEST_F(WalFullDiskTest, ARotationAnswersNoSpaceAndTheLogGoesOn) {
  open();
  append(3);
  leave_free(0);
  EXPECT_EQ(code_of(wal_->rotate()), "no_space");
  append(3);
  EXPECT_EQ(code_of(wal_->rotate()), "no_space");
  ok(wal_->sync());
  EXPECT_EQ(wal_->stats().segments, 1U);
  leave_free(kMiB);
  ok(wal_->rotate());
  append(3);
  EXPECT_EQ(wal_->stats().segments, 2U);
  open_after_kill();
  expect_records(0, 9);
}

TEST_F(WalFullDiskTest, AnAppendThatHasToRotateLikewise) {
  open();
  append(1, 1000);
  for (int i = 0; i < 5; ++i) {
    leave_free(static_cast<std::uint64_t>(i) * 8192);
    append_until_full();
  }
  const auto records = wal_->current_position().sequence;
  ok(wal_->sync());
  expect_records(0, records, 1000);
  leave_free(10 * kMiB);
  append(200, 1000);
  EXPECT_GE(wal_->stats().segments, 3U);
  open_after_power_cut();
  EXPECT_GE(recovery_.next_sequence, records);
}

TEST_F(WalFullDiskTest, ABatchTooLargeForTheSpaceLeavesNothing) {
  open();
  append(1);
  leave_free(100 * kKiB);
  const std::string large(500'000, 'x');
  EXPECT_EQ(code_of(wal_->append(Record::put("large", large))), "no_space");
  append(1);
  leave_free(kMiB);
  ok(wal_->append(Record::put("large", large)));
  open_after_kill();
  const auto entries = read();
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_EQ(entries[1].key, "1");
  EXPECT_EQ(entries[2].value.size(), large.size());
}

// Killed with its newest records in the ring, on a disk that is full when it comes back.
TEST_F(WalFullDiskTest, ALogWithoutSpaceToWriteOpensReadsAndDeletes) {
  open();
  append(100, 1000);
  ok(wal_->rotate());
  append(100, 1000);
  const auto records = wal_->current_position().sequence;
  disk_.crash_process();
  leave_free(0);
  disk_.writes_may_hit_no_space(true);
  open();
  EXPECT_EQ(recovery_.next_sequence, records);
  expect_records(0, records, 1000);
  EXPECT_EQ(code_of(wal_->append(Record::put("a", "b"))), "no_space");
  EXPECT_EQ(wal_->current_position().sequence, records);
  disk_.writes_may_hit_no_space(false);
  EXPECT_EQ(code_of(wal_->append(Record::put("a", "b"))), "no_space");
  EXPECT_GT(ok(wal_->delete_segments_before(Position{.sequence = 100})), 0U);
  append(3, 1000);
  const auto first = wal_->stats().first_sequence;
  EXPECT_GT(first, 0U);
  expect_records(first, records + 3, 1000);
  open_after_power_cut();
  EXPECT_GE(recovery_.next_sequence, records);
}

TEST_F(WalFullDiskTest, AReaderThatIsOpenSeesWhatASyncMakesDurableLater) {
  open();
  append(3);
  disk_.crash_process();
  leave_free(0);
  disk_.writes_may_hit_no_space(true);
  open();
  ASSERT_EQ(wal_->durable_position().sequence, 0U);
  auto reader = ok(wal_->read_from(begin_of_log, {.visible = Visible::durable}));
  EXPECT_FALSE(ok(reader.next()));
  leave_free(kMiB);
  disk_.writes_may_hit_no_space(false);
  ok(wal_->sync());
  EXPECT_EQ(wal_->durable_position().sequence, 3U);
  EXPECT_TRUE(ok(reader.next()));
}

TEST_F(WalFullDiskTest, ACreationWithoutSpaceAnswersNoSpaceAndWorksLater) {
  leave_free(0);
  const auto code = code_of_open();
  EXPECT_EQ(code, "no_space");
  disk_.set_capacity_bytes(kCapacityBytes);
  open();
  append(3);
  expect_records(0, 3);
}

TEST_F(WalFullDiskTest, AClosedLogOpensOnAFullDisk) {
  open();
  append(3);
  wal_.reset();
  leave_free(0);
  open();
  EXPECT_TRUE(recovery_.closed_cleanly);
  expect_records(0, 3);
  EXPECT_EQ(code_of(wal_->append(Record::put("a", "b"))), "no_space");
  ok(wal_->close());
  leave_free(kMiB);
  open();
  append(1);
  expect_records(0, 4);
}

// Copy-on-write: a block that was written takes new space to be written again.
TEST_F(WalFullDiskTest, WithoutARingAWriteThatFindsNoSpaceIsNoFailure) {
  options_.ring_bytes = WalOptions::kNoRing;
  open();
  append(3);
  disk_.writes_may_hit_no_space(true);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(append_until_full(30'000), 0U);  // so much that some of it is cut off
    EXPECT_FALSE(wal_->stats().failure);
    expect_records(0, 3);
  }
  disk_.writes_may_hit_no_space(false);
  append(3);
  ok(wal_->sync());
  open_after_power_cut();
  expect_records(0, 6);
}

// What a refused append wrote has to be taken back: if that fails, so does the log.
TEST_F(WalFullDiskTest, WithoutARingAWriteThatCannotBeTakenBackIsAFailure) {
  options_.ring_bytes = WalOptions::kNoRing;
  for (const auto operation : {On::truncate, On::sync}) {
    options_.directory = fmt::format("log {}", testing::operation_name(operation));
    open();
    append(3);
    ok(wal_->sync());
    disk_.fail_nth(On::write, 0, ENOSPC);
    disk_.fail_nth(operation, 0, EIO);
    EXPECT_EQ(code_of(wal_->append(Record::put("large", std::string(30'000, 'x')))), "io");
    disk_.clear_faults();
    EXPECT_TRUE(wal_->stats().failure);
    EXPECT_EQ(code_of(wal_->append(Record::put("a", "b"))), "io");
    open_after_power_cut();
    EXPECT_GE(recovery_.next_sequence, 3U);
    EXPECT_LE(recovery_.next_sequence, 4U);
  }
}

// What a refused append wrote is taken back, and somebody else takes the space.
TEST_F(WalFullDiskTest, WithoutARingSpaceThatWasGivenBackMayBeGone) {
  options_.ring_bytes = WalOptions::kNoRing;
  open();
  append(3);
  disk_.fail_nth(On::write, 0, ENOSPC);
  disk_.fail_nth(On::allocate, 0, ENOSPC);
  EXPECT_EQ(code_of(wal_->append(Record::put("large", std::string(30'000, 'x')))), "no_space");
  EXPECT_EQ(disk_.faults_hit(), 2U);
  EXPECT_FALSE(wal_->stats().failure);
  expect_records(0, 3);
  append(3);
  ok(wal_->sync());
  open_after_power_cut();
  expect_records(0, 6);
}

// What opening lacked the space to make whole is read as it is: who asks what is durable is told of
// no less than a reader of what is durable sees.
TEST_F(WalFullDiskTest, BeforeThereIsRoomAReaderSeesWhatIsSaidToBeDurable) {
  open();
  append(3);
  ok(wal_->rotate());
  disk_.power_cut(1, {.survival = testing::Survival::nothing});
  disk_.writes_may_hit_no_space(true);
  leave_free(0);
  options_.verification = Verification::all;  // not by the first segment's footer
  open();
  EXPECT_EQ(code_of(wal_->append(Record::put("a", "b"))), "no_space");
  auto reader = ok(wal_->read_from(begin_of_log, {.visible = Visible::durable}));
  Sequence seen = 0;
  while (const auto entry = ok(reader.next())) {
    seen = entry->sequence + 1;
  }
  EXPECT_EQ(seen, 3U);
  EXPECT_EQ(wal_->durable_position().sequence, 3U);
}

// The opening frame that it has read is written again, when the first append is tried again.
TEST_F(WalFullDiskTest, WhoFollowsGoesOnBehindAFirstAppendThatFoundNoSpace) {
  open();
  auto follower = ok(wal_->read_from(begin_of_log));
  disk_.fail_nth(On::sync, 0, ENOSPC);
  EXPECT_EQ(code_of(wal_->append(Record::put("a", "b"))), "no_space");
  EXPECT_EQ(disk_.faults_hit(), 1U);
  EXPECT_FALSE(ok(follower.next()));
  append(1);
  EXPECT_TRUE(ok(follower.next()));
}

// A consumer of another process, which begins where the log is durable.
Sequence durable_to_others(WalOptions options) {
  options.mode = OpenMode::read_only;
  auto opened = ok(Wal::open(options));
  return ok(opened.wal.consumer("other", {.from = end_of_log})).position().sequence;
}

TEST_F(WalFullDiskTest, AFirstAppendWithoutRoomForTheRingLeavesAClosedLogClosed) {
  options_.segment_bytes = 4 * kMiB;
  options_.ring_bytes = kMiB;
  open();
  append(3);
  ok(wal_->close());
  leave_free(200 * kKiB);
  open();
  EXPECT_EQ(code_of(wal_->append(Record::put("a", "b"))), "no_space");
  leave_free(4 * kMiB);
  disk_.inject({.operations = On::write, .system_errno = ENOSPC, .name_suffix = "ring.tmp"});
  EXPECT_EQ(code_of(wal_->append(Record::put("a", "b"))), "no_space");
  EXPECT_EQ(durable_to_others(options_), 3U);
  ok(wal_->close());
  open();
  EXPECT_TRUE(recovery_.closed_cleanly);
}

TEST_F(WalFullDiskTest, AFirstAppendWithoutRoomForTheSegmentLeavesAClosedLogClosed) {
  open();
  append(3);
  ok(wal_->close());
  open();
  disk_.inject({.operations = On::allocate, .system_errno = ENOSPC, .name_suffix = ".wal"});
  EXPECT_EQ(code_of(wal_->append(Record::put("a", "b"))), "no_space");
  EXPECT_EQ(durable_to_others(options_), 3U);
  ok(wal_->close());
  open();
  EXPECT_TRUE(recovery_.closed_cleanly);
}

TEST_F(WalFullDiskTest, AFirstAppendThatIsCutShortIsClosedOrNot) {
  for (const bool has_room_again : {false, true}) {
    options_.directory = has_room_again ? "log a" : "log b";
    open();
    append(3);
    ok(wal_->close());
    open();
    disk_.fail_nth(On::sync, 0, ENOSPC, testing::Repeat::forever);
    EXPECT_EQ(code_of(wal_->append(Record::put("a", "b"))), "no_space");
    if (has_room_again) {
      disk_.clear_faults();
    }
    EXPECT_EQ(code_of(wal_->close()), has_room_again ? "ok" : "no_space");
    disk_.clear_faults();
    EXPECT_EQ(durable_to_others(options_), 3U);
    open();
    EXPECT_EQ(recovery_.closed_cleanly, has_room_again);
    EXPECT_EQ(recovery_.next_sequence, 3U);
    wal_.reset();
  }
}

TEST_F(WalFullDiskTest, ARotationThatIsTriedAgainIsOne) {
  open();
  append(1);
  disk_.fail_nth(On::rename, 0, ENOSPC);
  EXPECT_EQ(code_of(wal_->rotate()), "no_space");
  ok(wal_->rotate());
  EXPECT_EQ(ok(wal_->delete_segments_before(Position{.sequence = 1})), 1U);
}

// Recovery is tried again with each append.
TEST_F(WalFullDiskTest, WhatIsCutIsKeptOnce) {
  const auto kept = [&] { return ok(ok(disk_.open_directory("log/quarantine", false))->list()); };
  open();
  append(3);
  disk_.crash_process();
  ok(disk_.flip_bit("log/000000.wal", 60'000, 0));
  disk_.writes_may_hit_no_space(true);
  open();
  EXPECT_EQ(code_of(wal_->append(Record::put("a", "b"))), "no_space");
  EXPECT_TRUE(kept().empty());
  disk_.writes_may_hit_no_space(false);
  disk_.inject({.operations = On::write,
                .system_errno = ENOSPC,
                .repeat = testing::Repeat::forever,
                .name_suffix = ".wal"});
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(code_of(wal_->append(Record::put("a", "b"))), "no_space");
    EXPECT_EQ(kept().size(), 1U);
  }
  disk_.clear_faults();
  append(1);
  EXPECT_EQ(kept().size(), 1U);
  EXPECT_EQ(wal_->current_position().sequence, 4U);
}

// Damage that comes to light when there is room again is told, and nothing is written.
TEST_F(WalFullDiskTest, DamageIsNotedWhenThereIsRoomAgain) {
  open();
  append(3);
  ok(wal_->sync());
  const auto offset = read().front().position.offset;
  append(1);  // says that what is before it was durable
  ok(wal_->sync());
  append(3);
  disk_.crash_process();
  disk_.writes_may_hit_no_space(true);
  leave_free(0);
  open();
  EXPECT_EQ(code_of(wal_->append(Record::put("a", "b"))), "no_space");
  ok(disk_.flip_bit("log/000000.wal", offset + 20, 0));
  ok(disk_.remove_file("log/ring"));
  disk_.writes_may_hit_no_space(false);
  disk_.set_capacity_bytes(kCapacityBytes);
  const auto before = files();
  const auto appended = wal_->append(Record::put("a", "b"));
  EXPECT_EQ(code_of(appended), "damaged");
  EXPECT_FALSE(appended.error().position) << "nothing was appended";
  EXPECT_EQ(files(), before);
}

// A thin pool: allocated space does not hold what it promised. The ring keeps what was appended.
TEST_F(WalFullDiskTest, AThinPoolThatIsFullCostsNoRecord) {
  open();
  append(3);
  disk_.writes_may_hit_no_space(true);
  append(3);
  EXPECT_EQ(code_of(wal_->sync()), "no_space");
  const auto durable = wal_->append(Record::put("6", value_of(6, 10)), Durability::durable);
  EXPECT_EQ(code_of(durable), "no_space");
  ASSERT_TRUE(durable.error().position) << "it was appended";
  EXPECT_EQ(durable.error().position->sequence, 6U);
  EXPECT_FALSE(wal_->stats().failure);
  expect_records(0, 7);
  // A full ring is no room.
  std::string_view code = "ok";
  for (int i = 0; i < 100 && code == "ok"; ++i) {
    const auto sequence = wal_->current_position().sequence;
    code = code_of(wal_->append(Record::put(fmt::format("{}", sequence), value_of(sequence, 10))));
    if (i > 50) {
      code = code_of(wal_->append(Record::put("", std::string(15'000, 'x'))));
    }
  }
  EXPECT_EQ(code, "no_space");
  disk_.writes_may_hit_no_space(false);
  ok(wal_->sync());
  const auto records = wal_->current_position().sequence;
  open_after_power_cut();
  EXPECT_EQ(recovery_.next_sequence, records);
}

}  // namespace
}  // namespace nori
