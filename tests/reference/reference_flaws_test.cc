// The flaws of the log that this one is modelled on, one test each: none of them is here.
//
// The numbers are those of the list that was made when its source was read: 1 to 14 lose data or
// make it unreadable, 15 to 22 are wrong or mislead. Each comment says what happened there.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "format/frame.h"
#include "format/record.h"
#include "format/segment_header.h"
#include "nori/verify.h"
#include "nori/wal.h"
#include "segment/segment_name.h"
#include "testing/random.h"
#include "testing/recovered_log.h"
#include "testing/results.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::code_of;
using testing::ok;
using testing::SimulatedDisk;
using testing::Survival;
using On = testing::Operation;

// Nothing here takes nearly as long, unless it hangs.
constexpr std::chrono::seconds kTooLong{30};

std::string key_of(Sequence sequence) { return fmt::format("key {}", sequence); }

class ReferenceFlawsTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kCapacityBytes = kGiB;

  ReferenceFlawsTest() {
    options_.fsync = FsyncPolicy::os();
    options_.file_system = &disk_;
    disk_.set_capacity_bytes(kCapacityBytes);
  }

  // Another disk, for all that follows.
  SimulatedDisk& use_disk(std::uint64_t seed) {
    wal_.reset();
    other_disk_ = std::make_unique<SimulatedDisk>(seed);
    options_.file_system = other_disk_.get();
    return *other_disk_;
  }
  Wal& open() {
    wal_.reset();
    auto opened = ok(Wal::open(options_));
    recovery_ = std::move(opened.recovery);
    wal_.emplace(std::move(opened.wal));
    return *wal_;
  }
  Wal& open_after_kill() {
    disk_.crash_process();
    return open();
  }
  // Of what was not durable nothing is left.
  Wal& open_after_power_cut() {
    disk_.power_cut(1, {.survival = Survival::nothing});
    return open();
  }
  void append(std::uint64_t records, std::size_t value_bytes = 10) {
    for (std::uint64_t i = 0; i < records; ++i) {
      const auto key = key_of(wal_->current_position().sequence);
      ok(wal_->append(Record::put(key, std::string(value_bytes, 'v'))));
    }
  }
  // `segments` of three records each, and an empty one, all durable.
  void fill_segments(std::uint64_t segments) {
    for (std::uint64_t i = 0; i < segments; ++i) {
      append(3);
      ok(wal_->rotate());
    }
    ok(wal_->sync());
  }
  static std::vector<OwnedEntry> read_rest(Reader& reader) {
    std::vector<OwnedEntry> entries;
    while (const auto entry = ok(reader.next())) {
      entries.push_back(entry->copy());
    }
    return entries;
  }
  std::vector<OwnedEntry> read(ReadFrom from = begin_of_log) {
    auto reader = ok(wal_->read_from(from));
    return read_rest(reader);
  }
  // The log holds the records of append(), [first, end), and no other.
  void expect_records(Sequence first, Sequence end) {
    const auto entries = read();
    ASSERT_EQ(entries.size(), end - first);
    for (std::size_t i = 0; i < entries.size(); ++i) {
      EXPECT_EQ(entries[i].sequence, first + i);
      EXPECT_EQ(entries[i].key, key_of(first + i));
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
      if (!name.ends_with('/') && name != kLockName) {
        files[name] = ok(disk_.read_file("log/" + name));
      }
    }
    return files;
  }
  bool wait_until_durable(const Position& position) {
    const auto deadline = steady_clock::now() + kTooLong;
    while (wal_->durable_position() < position) {
      if (steady_clock::now() > deadline) {
        return false;
      }
      std::this_thread::sleep_for(milliseconds{1});
    }
    return true;
  }

  SimulatedDisk disk_{1};
  std::unique_ptr<SimulatedDisk> other_disk_;
  WalOptions options_ = testing::small_options();
  std::optional<Wal> wal_;
  RecoveryInfo recovery_;
};

// --- data lost or unreadable ---------------------------------------------------------------------

// There: the reader decoded from at most 128 KiB, so that a larger record was accepted and counted,
// and hid itself and all behind it.
TEST_F(ReferenceFlawsTest, Item01RecordsOver128KiBAreReadBack) {
  options_.segment_bytes = 128 * kMiB;
  options_.ring_bytes = 16 * kMiB;
  open();
  const std::vector<std::size_t> sizes = {128 * kKiB - 1, 128 * kKiB, 128 * kKiB + 1, 10, kMiB,
                                          5 * kMiB,       10};
  for (const auto size : sizes) {
    append(1, size);
  }
  for (int life = 0; life < 2; ++life) {
    const auto entries = read();
    ASSERT_EQ(entries.size(), sizes.size());
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      EXPECT_EQ(entries[i].value.size(), sizes[i]);
    }
    open_after_kill();
  }
}

// There: the documented delete_segments_before(current_position()) returned early and deleted
// nothing, ever. Deleting what is not durable elsewhere would have been the next flaw.
TEST_F(ReferenceFlawsTest, Item02DeletingBeforeTheEndDeletes) {
  open();
  fill_segments(3);
  append(2);
  EXPECT_EQ(ok(wal_->delete_segments_before(wal_->current_position())), 3U);
  EXPECT_EQ(wal_->stats().segments, 1U);
  expect_records(9, 11);
  open_after_power_cut();
  expect_records(9, 11);  // not durable before the deletion, durable because of it
}

// There: append and sync both returned OK after ENOSPC and EIO.
TEST_F(ReferenceFlawsTest, Item03AFailedWriteIsReportedByTheCallItFailed) {
  for (const auto ring_bytes : {64 * kKiB, WalOptions::kNoRing}) {
    for (const int system_errno : {EIO, ENOSPC}) {
      SCOPED_TRACE(fmt::format("ring {} errno {}", ring_bytes, system_errno));
      auto& disk = use_disk(7);
      options_.ring_bytes = ring_bytes;
      open();
      append(1);
      disk.fail_nth(On::write, 0, system_errno);
      const auto appended = wal_->append(Record::put("key", "value"), Durability::durable);
      EXPECT_EQ(code_of(appended), system_errno == EIO ? "io" : "no_space");
      disk.clear_faults();
      // And what came of it is no secret.
      EXPECT_EQ(code_of(wal_->sync()), system_errno == EIO ? "io" : "ok");
    }
  }
}

// There: a partial write moved the cursor and not the size: garbage in the middle, and recovery cut
// every acknowledged record behind it.
TEST_F(ReferenceFlawsTest, Item04AfterAPartialWriteNothingIsOutOfPlace) {
  for (const auto ring_bytes : {64 * kKiB, WalOptions::kNoRing}) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
      SCOPED_TRACE(fmt::format("ring {} seed {}", ring_bytes, seed));
      auto& disk = use_disk(seed);
      options_.ring_bytes = ring_bytes;
      open();
      append(3, 3000);
      // Of the failed write any number of sectors is written.
      disk.fail_nth(On::write, 0, ENOSPC);
      const std::string value(5000, 'x');
      const auto failed = wal_->append(Record::put("failed", value), Durability::durable);
      EXPECT_EQ(code_of(failed), "no_space");
      const bool was_appended = failed.error().position.has_value();
      if (!was_appended) {
        // Killed here, nothing of it is found either, although all its bytes may be there.
        const auto killed = disk.clone();
        auto options = options_;
        options.file_system = killed.get();
        EXPECT_EQ(ok(Wal::open(options)).recovery.next_sequence, 3U);
      }
      append(3, 3000);
      ok(wal_->sync());
      disk.power_cut(seed, {.survival = Survival::random});
      open();
      EXPECT_FALSE(recovery_.torn_tail);
      std::string keys;
      for (const auto& entry : read()) {
        keys += entry.key + ";";
      }
      EXPECT_EQ(keys, was_appended ? "key 0;key 1;key 2;failed;key 4;key 5;key 6;"
                                   : "key 0;key 1;key 2;key 3;key 4;key 5;");
    }
  }
}

// There: a bad record in one segment cut that one and kept the next: a silent hole. A missing
// segment in the middle was accepted.
TEST_F(ReferenceFlawsTest, Item05NothingIsReadBehindAHole) {
  open();
  fill_segments(4);
  wal_.reset();
  options_.verification = Verification::all;
  const auto expect_stop_at = [&](Sequence sequence) {
    EXPECT_EQ(code_of(Wal::open(options_)), "damaged");
    options_.mode = OpenMode::read_only;
    open();
    options_.mode = OpenMode::create;
    auto reader = ok(wal_->read_from(begin_of_log));
    for (Sequence next = 0; next < sequence; ++next) {
      EXPECT_EQ(ok(reader.next())->sequence, next);
    }
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(code_of(reader.next()), "damaged");
    }
  };
  const auto whole = ok(disk_.read_file("log/000001.wal"));
  ok(disk_.flip_bit("log/000001.wal", 4096 + 50, 0));
  expect_stop_at(3);
  ok(disk_.remove_file("log/000001.wal"));
  expect_stop_at(3);
  ok(disk_.write_file("log/000001.wal", whole));
  wal_.reset();
  open();
  expect_records(0, 12);
}

// There: one flipped bit discarded the rest of its segment, sealed and synced or not, and with it
// the evidence.
TEST_F(ReferenceFlawsTest, Item06AFlippedBitCostsNoOtherRecordAndNoEvidence) {
  options_.verification = Verification::all;
  open();
  append(3);
  const auto second = read()[1].position;
  ok(wal_->rotate());
  append(3);
  wal_.reset();
  ok(disk_.flip_bit("log/000000.wal", second.offset + kFrameHeaderBytes, 0));
  const auto before = files();
  const auto refused = Wal::open(options_);
  EXPECT_EQ(code_of(refused), "damaged");
  EXPECT_NE(refused.error().message.find("000000.wal"), std::string::npos);
  EXPECT_EQ(files(), before) << "nothing is cut, nothing rewritten";
  options_.mode = OpenMode::read_only;
  open();
  auto reader = ok(wal_->read_from(begin_of_log, {.skip_damaged = true}));
  EXPECT_EQ(ok(reader.next())->sequence, 0U);
  EXPECT_EQ(code_of(reader.next()), "damaged");
  EXPECT_EQ(ok(reader.next())->sequence, 2U) << "the next one in the same segment";
  EXPECT_EQ(read_rest(reader).size(), 3U);
  EXPECT_EQ(files(), before);
}

// There: rotation raced with itself (empty segments), and with appends: some landed in the old
// file, which no later sync covered.
TEST_F(ReferenceFlawsTest, Item07RotationsAmongThreadsLoseNothingAndLeaveNoEmptySegment) {
  constexpr int kThreads = 4;
  constexpr int kRecords = 150;
  options_.background_thread = true;
  open();
  {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&, thread] {
        for (int i = 0; i < kRecords; ++i) {
          EXPECT_EQ(code_of(wal_->append(
                        Record::put(fmt::format("{}/{}", thread, i), std::string(400, 'v')))),
                    "ok");
          if (i % 50 == 49) {
            EXPECT_EQ(code_of(wal_->rotate()), "ok");
          }
        }
        EXPECT_EQ(code_of(wal_->sync()), "ok");
      });
    }
  }
  open_after_power_cut();
  std::map<std::string, int> times_seen;
  std::map<std::uint64_t, int> records_in_segment;
  for (const auto& entry : read()) {
    ++times_seen[entry.key];
    ++records_in_segment[entry.position.segment_id];
  }
  EXPECT_EQ(times_seen.size(), std::size_t{kThreads * kRecords});
  EXPECT_TRUE(std::ranges::all_of(times_seen, [](const auto& seen) { return seen.second == 1; }));
  const auto stats = wal_->stats();
  for (std::uint64_t id = 0; id < stats.active_segment_id; ++id) {
    EXPECT_GT(records_in_segment[id], 0) << id;
  }
}

// There: no directory was ever synced: acknowledged segments could vanish with the power. Here the
// simulated disk forgets every name that was not made durable.
TEST_F(ReferenceFlawsTest, Item08NamesAreDurableBeforeWhatIsUnderThem) {
  options_.directory = "some/new/log";
  options_.fsync = FsyncPolicy::always();
  open();
  append(1);
  open_after_power_cut();
  expect_records(0, 1);
  for (int i = 0; i < 3; ++i) {
    ok(wal_->rotate());
    append(1);
    open_after_power_cut();
  }
  expect_records(0, 4);
  ok(wal_->delete_segments_before(wal_->durable_position()));
  const auto first = wal_->stats().first_sequence;
  open_after_power_cut();
  EXPECT_EQ(wal_->stats().first_sequence, first) << "a deleted segment is back";
  expect_records(first, 4);
}

// There: a second open "repaired" the live writer's file away under it.
TEST_F(ReferenceFlawsTest, Item09ASecondWriterIsRefusedAndTouchesNothing) {
  open();
  append(3);
  const auto before = disk_.operations();
  EXPECT_EQ(code_of(Wal::open(options_)), "locked");
  EXPECT_EQ(disk_.operations(), before);
  append(3);
  ok(wal_->sync());
  open_after_power_cut();
  expect_records(0, 6);
}

// There: no timer, so that the last appends of a burst stayed unsynced for ever; and a failed flush
// put off the next one as well.
TEST_F(ReferenceFlawsTest, Item10TheEndOfABurstBecomesDurableByItself) {
  options_.background_thread = true;
  options_.fsync = FsyncPolicy::batch(milliseconds{5});
  open();
  append(3);
  EXPECT_TRUE(wait_until_durable(wal_->current_position()));
  disk_.writes_may_hit_no_space(true);  // a flush that fails and may be tried again
  append(3);
  std::this_thread::sleep_for(milliseconds{20});
  EXPECT_EQ(wal_->durable_position().sequence, 3U);
  disk_.writes_may_hit_no_space(false);
  EXPECT_TRUE(wait_until_durable(wal_->current_position()));
  open_after_power_cut();
  expect_records(0, 6);
}

// There: after a failed fsync the next one returned OK, with the pages lost.
TEST_F(ReferenceFlawsTest, Item11AFailedSyncIsNotForgotten) {
  options_.io = IoMode::buffered;
  open();
  append(3);
  ok(wal_->sync());
  append(3);
  disk_.fail_nth(On::sync, 0, EIO, testing::Repeat::once, true);
  EXPECT_EQ(code_of(wal_->sync()), "io");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(code_of(wal_->sync()), "io");
    EXPECT_EQ(code_of(wal_->append(Record::put("key", "value"))), "io");
  }
  EXPECT_EQ(wal_->durable_position().sequence, 3U);
  EXPECT_EQ(code_of(wal_->close()), "io");
  // Reopening writes again what the kernel dropped: the ring has it.
  open();
  expect_records(0, 6);
  open_after_power_cut();
  expect_records(0, 6);
}

// There: read_from read one segment, so that a restart lost all behind the first, and failed once
// the first was deleted. The expiry was lost on the way.
TEST_F(ReferenceFlawsTest, Item12ReadingCrossesSegmentsAndStartsAtTheFirstLeft) {
  open();
  fill_segments(5);
  const TimePoint expires_at{milliseconds{1'700'000'000'000}};
  ok(wal_->append(Record::put(key_of(15), "value", expires_at)));
  for (int life = 0; life < 2; ++life) {
    expect_records(0, 16);
    EXPECT_EQ(read().back().expires_at, expires_at);
    open_after_kill();
  }
  EXPECT_EQ(ok(wal_->delete_segments_before(Position{.sequence = 6})), 2U);
  expect_records(6, 16);
  open_after_kill();
  expect_records(6, 16);
}

// There: a batch had no frame of its own: after a crash a part of it was there.
TEST_F(ReferenceFlawsTest, Item13ABatchIsThereInFullOrNotAtAll) {
  constexpr std::uint64_t kBatchRecords = 7;
  std::uint64_t partial = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    auto& disk = use_disk(seed);
    options_.ring_bytes = seed % 2 == 0 ? WalOptions::kNoRing : 64 * kKiB;
    open();
    Batch batch;
    for (std::uint64_t i = 0; i < kBatchRecords; ++i) {
      batch.put(fmt::format("{}", i), std::string(600, 'v'));
    }
    disk.crash_after(testing::Random(seed).below(20));
    for (int i = 0; i < 20; ++i) {
      if (!wal_->append(batch, i % 4 == 3 ? Durability::durable : Durability::policy)) {
        break;
      }
    }
    wal_.reset();
    disk.power_cut(seed, {.survival = Survival::random, .torn_sectors = true});
    open();
    EXPECT_EQ(recovery_.next_sequence % kBatchRecords, 0U) << "seed " << seed;
    EXPECT_EQ(read().size(), recovery_.next_sequence);
    partial += recovery_.torn_tail ? 1 : 0;
  }
  EXPECT_GT(partial, 0U) << "no crash came within a batch";
}

// There: a value that did not compress was stored plain under the flag "compressed": undecodable.
// This version compresses nothing; what it keeps of the subject is that the flag bits are reserved,
// and that what is written under one flag is read under it, whatever the bytes.
TEST_F(ReferenceFlawsTest, Item14IncompressibleValuesComeBackAndUnknownFlagsAreRefused) {
  testing::Random random(3);
  std::string value;
  for (int i = 0; i < 50'000; ++i) {
    value.push_back(static_cast<char>(random.next()));
  }
  open();
  ok(wal_->append(Record::put("key", value)));
  open_after_kill();
  EXPECT_TRUE(read().front().value == value);
  for (unsigned bit = 3; bit < 8; ++bit) {
    const std::array<std::byte, 5> record = {std::byte{static_cast<std::uint8_t>(1U << bit)},
                                             std::byte{1}, std::byte{1}, std::byte{'k'},
                                             std::byte{'v'}};
    ByteView payload(record);
    EXPECT_FALSE(decode_record(payload)) << "bit " << bit;
  }
}

// --- wrong or misleading -------------------------------------------------------------------------

// There: preallocated zeros failed the checksum, so that every kill was reported as corruption of
// some 128 MiB.
TEST_F(ReferenceFlawsTest, Item15AKilledProcessIsNoCorruption) {
  for (const auto ring_bytes : {64 * kKiB, WalOptions::kNoRing}) {
    options_.ring_bytes = ring_bytes;
    open();
    append(3);
    const auto records = wal_->current_position().sequence;
    open_after_kill();
    EXPECT_EQ(recovery_.next_sequence, records);
    EXPECT_FALSE(recovery_.corruption_detected);
    EXPECT_FALSE(recovery_.torn_tail);
    EXPECT_EQ(recovery_.bytes_truncated, 0U);
    EXPECT_EQ(recovery_.reason, "");
    EXPECT_TRUE(recovery_.quarantined.empty());
  }
}

// There: where preallocation failed, for want of space too, the file was extended as a hole
// instead: an append into it could fail after it was accepted.
TEST_F(ReferenceFlawsTest, Item16WhatIsAcceptedHasItsSpace) {
  options_.segment_bytes = kMiB;
  open();
  append(1);
  leave_free(0);
  std::uint64_t records = 1;
  for (;; ++records) {
    const auto appended = wal_->append(Record::put(key_of(records), std::string(500, 'v')));
    if (!appended) {
      EXPECT_EQ(code_of(appended), "no_space");
      break;
    }
    ASSERT_LT(records, 10'000U) << "the disk is never full";
  }
  ok(wal_->sync());
  EXPECT_FALSE(disk_.mapped_holes_seen());
  open_after_power_cut();
  expect_records(0, records);
}

// There: the size moved before the bytes did, so that a tailing reader met zeros; it took the end
// for a snapshot, and a cut in mid-file for the end.
TEST_F(ReferenceFlawsTest, Item17ATailingReaderSeesEachRecordOnceAndNoError) {
  constexpr Sequence kRecords = 1500;
  options_.background_thread = true;
  open();
  auto reader = ok(wal_->read_from(begin_of_log));
  const std::jthread writer([&] { append(kRecords, 300); });
  for (Sequence next = 0; next < kRecords; ++next) {
    ASSERT_TRUE(ok(reader.follow(kTooLong))) << next;
    const auto entry = ok(reader.next());
    ASSERT_TRUE(entry);
    ASSERT_EQ(entry->sequence, next);
    ASSERT_EQ(entry->key, key_of(next));
  }
}

// There: lengths had no checksum of their own, so that a bad one read as "incomplete", the same as
// a torn tail; reserved bits were ignored and overlong lengths accepted.
TEST_F(ReferenceFlawsTest, Item18ABadLengthIsDamageAndNotAnEnd) {
  open();
  append(3);
  const auto second = read()[1].position;
  wal_.reset();
  constexpr std::uint64_t kLengthOffset = 8;  // of payload_bytes in the frame's header
  for (std::uint64_t byte = 0; byte < 4; ++byte) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      const auto offset = second.offset + kLengthOffset + byte;
      ok(disk_.flip_bit("log/000000.wal", offset, bit));
      const auto report = ok(verify("log", &disk_));
      ASSERT_EQ(report.damages.size(), 1U);
      EXPECT_EQ(report.damages.front().offset, second.offset);
      EXPECT_EQ(report.bytes_torn, 0U);
      EXPECT_EQ(report.next_sequence, 3U) << "what is behind is found";
      options_.verification = Verification::all;
      EXPECT_EQ(code_of(Wal::open(options_)), "damaged");
      ok(disk_.flip_bit("log/000000.wal", offset, bit));
    }
  }
  // The key's length 1, in two bytes.
  const std::array<std::byte, 6> overlong = {std::byte{0}, std::byte{0x81}, std::byte{0},
                                             std::byte{1}, std::byte{'k'},  std::byte{'v'}};
  ByteView payload(overlong);
  EXPECT_FALSE(decode_record(payload));
}

// There: a checksum over the bytes alone: files could be swapped, spliced and misread, and what was
// left of an earlier file read as new.
TEST_F(ReferenceFlawsTest, Item19BytesCountOnlyAtTheirPlaceInTheirLog) {
  open();
  append(1);
  const auto first = read().front().position.offset;
  append(2);
  const auto second = read()[1].position.offset;
  const auto third = read()[2].position.offset;
  ASSERT_EQ(third - second, second - first) << "frames of one size";
  ok(wal_->rotate());
  append(3);
  wal_.reset();
  options_.verification = Verification::all;
  const auto whole = files();
  const auto put = [&](std::string_view name, ByteView bytes) {
    ok(disk_.write_file(fmt::format("log/{}", name), bytes));
  };
  // The second frame over the first one, within a file.
  auto spliced = whole.at("000000.wal");
  const auto at = [&](std::uint64_t offset) {
    return spliced.begin() + static_cast<std::ptrdiff_t>(offset);
  };
  std::copy(at(second), at(third), at(first));
  put("000000.wal", spliced);
  EXPECT_EQ(code_of(Wal::open(options_)), "damaged");
  // A frame of the same place in another file.
  auto crossed = whole.at("000001.wal");
  const auto& other = whole.at("000000.wal");
  std::copy(other.begin() + 8192, other.begin() + 12288, crossed.begin() + 4096);
  put("000000.wal", other);
  put("000001.wal", crossed);
  EXPECT_EQ(code_of(Wal::open(options_)), "damaged");
  // Files that changed their names.
  put("000000.wal", whole.at("000001.wal"));
  put("000001.wal", whole.at("000000.wal"));
  EXPECT_EQ(code_of(Wal::open(options_)), "damaged");
  // And none of it is read as data.
  EXPECT_FALSE(ok(verify("log", &disk_)).damages.empty());
  for (const auto& [name, bytes] : whole) {
    put(name, bytes);
  }
  open();
  expect_records(0, 6);
}

// There: an expiry was relative to nothing that was kept, and could not be told after a restart.
TEST_F(ReferenceFlawsTest, Item20AnExpiryIsAPointInTime) {
  disk_.set_now_ms(1'000'000);
  open();
  const TimePoint expires_at{milliseconds{1'060'000}};
  ok(wal_->append(Record::put("key", "value", expires_at)));
  wal_.reset();
  disk_.set_now_ms(9'000'000);
  open();
  const auto entry = read().front();
  EXPECT_EQ(entry.expires_at, expires_at);
  EXPECT_EQ(entry.time, TimePoint{milliseconds{1'000'000}}) << "and when it was appended is kept";
}

// There: "last valid position" was the end; deletion ignored the offset and went in any order, so
// that an interrupted one left holes; temporary files stayed.
TEST_F(ReferenceFlawsTest, Item21PositionsMeanWhatTheySayAndDeletionLeavesASuffix) {
  open();
  append(5);
  const auto last = read().back().position;
  open_after_kill();
  ASSERT_TRUE(recovery_.last_valid_position);
  EXPECT_EQ(*recovery_.last_valid_position, last);
  EXPECT_EQ(recovery_.last_valid_position->offset, last.offset);
  EXPECT_EQ(recovery_.next_sequence, last.sequence + 1);

  ok(wal_->rotate());
  fill_segments(4);
  const auto records = wal_->current_position().sequence;
  wal_.reset();
  // A deletion that is interrupted after each of its steps, and then by a power cut.
  for (std::uint64_t steps = 0; steps < 12; ++steps) {
    SCOPED_TRACE(steps);
    const auto disk = disk_.clone();
    auto options = options_;
    options.file_system = disk.get();
    std::optional<Wal> wal(ok(Wal::open(options)).wal);
    disk->crash_after(steps);
    static_cast<void>(wal->delete_segments_before(Position{.sequence = records - 4}));
    wal.reset();
    disk->power_cut(steps, {.survival = Survival::random});
    auto opened = ok(Wal::open(options));
    auto reader = ok(opened.wal.read_from(begin_of_log));
    const auto entries = read_rest(reader);
    ASSERT_GE(entries.size(), 4U);
    EXPECT_EQ(entries.back().sequence, records - 1);
    EXPECT_EQ(entries.front().sequence + entries.size(), records) << "a hole";
    ok(opened.wal.append(Record::put("key", "value")));
    ok(opened.wal.close());
    const auto names = ok(disk->list_files("log"));
    EXPECT_TRUE(std::ranges::none_of(
        names, [](const std::string& name) { return name.ends_with(".tmp"); }));
  }
}

// There: a cache kept deleted segments open, so that their space did not come back; all readers of
// a file shared one cursor behind a mutex.
TEST_F(ReferenceFlawsTest, Item22DeletedSpaceComesBackAndReadersAreIndependent) {
  open();
  fill_segments(4);
  {
    auto one = ok(wal_->read_from(begin_of_log));
    auto other = ok(wal_->read_from(begin_of_log));
    for (Sequence next = 0; next < 6; ++next) {
      EXPECT_EQ(ok(one.next())->sequence, next);
      if (next % 2 == 0) {
        EXPECT_EQ(ok(other.next())->sequence, next / 2);
      }
    }
    EXPECT_EQ(read_rest(one).size(), 6U);
    EXPECT_EQ(read_rest(other).size(), 9U);
  }
  const auto bytes_before = wal_->stats().bytes_on_disk;
  const auto free_before = disk_.free_bytes();
  EXPECT_EQ(ok(wal_->delete_segments_before(wal_->current_position())), 4U);
  const auto bytes_deleted = bytes_before - wal_->stats().bytes_on_disk;
  EXPECT_GT(bytes_deleted, 0U);
  constexpr std::uint64_t kLockBytes = 4096;  // cursors.lock, made by the first deletion
  EXPECT_EQ(disk_.free_bytes() - free_before, bytes_deleted - kLockBytes);
}

}  // namespace
}  // namespace nori
