// Goal: compaction takes what nobody can want any more, and nothing else, whatever happens to it.
// Method: a log as a list of lines, "sequence key=value", before and after; then a crash at every
// step of a compaction, and a failure of every call.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "format/frame.h"
#include "format/segment_header.h"
#include "log/compaction.h"
#include "log/log_listing.h"
#include "nori/consumer.h"
#include "nori/snapshot.h"
#include "nori/verify.h"
#include "nori/wal.h"
#include "segment/segment_reader.h"
#include "testing/crash_points.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"
#include "tests/gc/compaction_fixture.h"

namespace nori::gc_tests {
namespace {

using testing::SimulatedDisk;
using Keep = CompactionOptions::Keep;

// The mission page's: seven records in two segments, four left in one.
TEST_F(CompactionTest, OfEachKeyTheNewestRecordIsLeftAndSequencesStay) {
  open();
  segment({"k1=v1", "k2=v1", "k1=v2", "k3=v1"});
  segment({"k2=v2", "k1=v3", "k4=v1"});
  const auto report = compact();
  const Lines expected{"3 k3=v1", "4 k2=v2", "5 k1=v3", "6 k4=v1"};
  EXPECT_EQ(lines_of(*wal_), expected);
  EXPECT_EQ(report.records_before, 7);
  EXPECT_EQ(report.records_after, 4);
  EXPECT_EQ(report.files_before, 2);
  EXPECT_EQ(report.files_after, 1);
  EXPECT_LT(report.bytes_after, report.bytes_before);
  EXPECT_EQ(report.files, Lines{"000000-000001.wal"});
  EXPECT_EQ(files(), (Lines{"000000-000001.wal", "000002.wal"}));
  expect_sound();
  for (const auto verification : {Verification::tail, Verification::all}) {
    options_.verification = verification;
    open();
    EXPECT_EQ(lines_of(*wal_), expected);
  }
  EXPECT_EQ(wal_->append(Record::put("k5", "v1"))->sequence, 7);
  ASSERT_TRUE(wal_->close());
  expect_sound();
  open();
  EXPECT_EQ(lines_of(*wal_).back(), "7 k5=v1");
}

// The mission page's levels: a tombstone goes with the last record that it hides.
TEST_F(CompactionTest, ATombstoneStaysWhileAnOlderSegmentMayHoldWhatItHides) {
  open();
  segment({"k1=v1"});
  segment({"-k1", "k2=v1", "k2=v2", "k2=v3"});
  const auto position = wal_->read_from(Sequence{1})->position();
  compact({.from = position});
  EXPECT_EQ(lines_of(*wal_), (Lines{"0 k1=v1", "1 k1=(deleted)", "4 k2=v3"}));
  const auto report = compact();
  EXPECT_EQ(report.tombstones_dropped, 1);
  EXPECT_EQ(lines_of(*wal_), (Lines{"4 k2=v3"}));
  expect_sound();
}

TEST_F(CompactionTest, AnExpiredRecordGoesAndWhatItHidStaysHidden) {
  open();
  const auto soon = TimePoint{std::chrono::milliseconds(disk_.now_ms() + 1000)};
  segment({"k1=v1", "k2=v1"});
  ASSERT_TRUE(wal_->append(Record::put("k1", "v2", soon)));
  segment({"k3=v1"});
  EXPECT_EQ(compact().records_after, 3);
  EXPECT_EQ(lines_of(*wal_), (Lines{"1 k2=v1", "2 k1=v2", "3 k3=v1"}));
  disk_.advance_ms(1001);
  segment({"k3=v2"});
  // A clock that jumps makes nothing expire: what the log has seen does.
  EXPECT_EQ(compact({.dry_run = true}).tombstones_dropped, 0);
  open();
  compact();
  EXPECT_EQ(lines_of(*wal_), (Lines{"1 k2=v1", "4 k3=v2"}));
}

TEST_F(CompactionTest, KeepAllTakesPaddingAlone) {
  open();
  for (int i = 0; i < 3; ++i) {
    for (int k = 0; k < 5; ++k) {
      ASSERT_TRUE(wal_->append(Record::put(fmt::format("k{}", k), "v"), Durability::durable));
    }
    ASSERT_TRUE(wal_->rotate());
  }
  const auto before = lines_of(*wal_);
  const auto report = compact({.keep = Keep::all});
  EXPECT_EQ(lines_of(*wal_), before);
  EXPECT_EQ(report.records_after, 15);
  EXPECT_LT(report.bytes_after, report.bytes_before / 3);
  // Nothing is left to take: it stays as it is.
  EXPECT_EQ(compact({.keep = Keep::all}).files_after, 1);
  EXPECT_EQ(files(), (Lines{"000000-000002.wal", "000003.wal"}));
}

TEST_F(CompactionTest, WhatIsAllGarbageLeavesItsRange) {
  open();
  segment({"k1=v1", "k2=v1"});
  segment({"-k1", "-k2"});
  compact();
  EXPECT_EQ(lines_of(*wal_), Lines{});
  EXPECT_EQ(wal_->stats().first_sequence, 0);
  segment({"k1=v2"});
  EXPECT_EQ(lines_of(*wal_), (Lines{"4 k1=v2"}));
  options_.verification = Verification::all;
  open();
  EXPECT_EQ(lines_of(*wal_), (Lines{"4 k1=v2"}));
  EXPECT_EQ(lines_of(*wal_, Sequence{2}), (Lines{"4 k1=v2"}));
}

TEST_F(CompactionTest, BatchesEndEpochsAndTimesAreKept) {
  open();
  Batch batch;
  batch.put("a", "1");
  batch.put("b", "1");
  batch.put("c", "1");
  ASSERT_TRUE(wal_->append(batch));
  disk_.advance_ms(10);
  segment({"c=2"});
  const auto first_epoch = wal_->read_from(begin_of_log)->next()->value().epoch;
  open();  // another epoch
  disk_.advance_ms(10);
  segment({"d=1", "d=2"});
  const auto before = [&] {
    std::map<Sequence, OwnedEntry> entries;
    auto reader = wal_->read_from(begin_of_log);
    for (const auto& entry : *reader) {
      entries.emplace(entry->sequence, entry->copy());
    }
    return entries;
  }();
  compact();
  auto reader = wal_->read_from(begin_of_log);
  std::vector<OwnedEntry> after;
  for (const auto& entry : *reader) {
    after.push_back(entry->copy());
  }
  ASSERT_EQ(after.size(), 4);  // a, b, c=2, d=2
  for (const auto& entry : after) {
    const auto& was = before.at(entry.sequence);
    EXPECT_EQ(entry.time, was.time);
    EXPECT_EQ(entry.epoch, was.epoch);
    EXPECT_EQ(entry.key, was.key);
    EXPECT_EQ(entry.value, was.value);
  }
  EXPECT_EQ(after[0].epoch, first_epoch);
  EXPECT_NE(after[3].epoch, first_epoch);
  EXPECT_FALSE(after[0].ends_batch);
  EXPECT_TRUE(after[1].ends_batch);  // c, which ended it, is gone
}

TEST_F(CompactionTest, APlaceFromBeforeIsFoundByItsSequenceOrTime) {
  open();
  segment({"a=1", "b=1", "c=1"});
  disk_.advance_ms(100);
  const auto time = TimePoint{std::chrono::milliseconds(disk_.now_ms())};
  segment({"a=2", "d=1"});
  segment({"e=1"});
  std::vector<Position> places;
  auto reader = wal_->read_from(begin_of_log);
  for (const auto& entry : *reader) {
    places.push_back(entry->position);
  }
  compact();
  EXPECT_EQ(lines_of(*wal_, places[0]).front(), "1 b=1");  // 0 was dropped
  EXPECT_EQ(lines_of(*wal_, places[2]).front(), "2 c=1");
  EXPECT_EQ(lines_of(*wal_, places[4]).front(), "4 d=1");
  EXPECT_EQ(lines_of(*wal_, Sequence{3}).front(), "3 a=2");
  EXPECT_EQ(lines_of(*wal_, time).front(), "3 a=2");
  EXPECT_EQ(*wal_->position_at(time), wal_->read_from(Sequence{3})->next()->value().position);
}

TEST_F(CompactionTest, AReaderInTheRangeGoesOnAndMissesNothingThatIsLeft) {
  for (int steps = 0; steps < 7; ++steps) {
    options_.directory = fmt::format("log{}", steps);
    open();
    segment({"a=1", "b=1"});
    segment({"c=1", "a=2"});
    segment({"d=1", "e=1"});
    auto reader = wal_->read_from(begin_of_log);
    Lines read;
    for (int i = 0; i < steps; ++i) {
      read.push_back(line_of(reader->next()->value()));
    }
    compact();
    for (const auto& entry : *reader) {
      ASSERT_TRUE(entry) << entry.error().message;
      read.push_back(line_of(*entry));
    }
    // What was dropped may have been read before, or still be at hand.
    std::erase(read, "0 a=1");
    EXPECT_EQ(read, (Lines{"1 b=1", "2 c=1", "3 a=2", "4 d=1", "5 e=1"})) << steps;
  }
}

TEST_F(CompactionTest, WhatWasCompactedIsCompactedAgain) {
  open();
  segment({"a=1", "b=1", "c=1"});
  segment({"a=2", "b=2"});
  compact();
  segment({"a=3"});
  segment({"b=3", "d=1"});
  compact();
  EXPECT_EQ(lines_of(*wal_), (Lines{"2 c=1", "5 a=3", "6 b=3", "7 d=1"}));
  EXPECT_EQ(files(), (Lines{"000000-000003.wal", "000004.wal"}));
  segment({"c=2", "a=4"});
  compact();
  EXPECT_EQ(lines_of(*wal_), (Lines{"6 b=3", "7 d=1", "8 c=2", "9 a=4"}));
  expect_sound();
}

TEST_F(CompactionTest, LittleMemoryReadsMoreOftenAndFindsTheSame) {
  options_.segment_bytes = kMiB;
  open();
  std::map<std::string, Sequence> newest;
  for (int round = 0; round < 2; ++round) {
    for (int k = 0; k < 60'000; ++k) {
      if (round == 0 || k % 3 == 0) {
        const auto key = fmt::format("key{}", k);
        newest[key] = wal_->append(Record::put(key, ""))->sequence;
      }
    }
  }
  ASSERT_TRUE(wal_->rotate());
  const auto report = compact({.memory_bytes = kMiB});  // 23,831 keys at once
  EXPECT_EQ(report.records_after, newest.size());
  std::map<std::string, Sequence> left;
  auto reader = wal_->read_from(begin_of_log);
  for (const auto& entry : *reader) {
    ASSERT_TRUE(entry);
    EXPECT_TRUE(left.emplace(entry->key, entry->sequence).second);
  }
  EXPECT_EQ(left, newest);
}

TEST_F(CompactionTest, ADryRunChangesNothing) {
  open();
  segment({"a=1", "a=2"});
  segment({"a=3"});
  const auto report = compact({.dry_run = true});
  EXPECT_EQ(report.records_after, 1);
  EXPECT_EQ(files(), (Lines{"000000.wal", "000001.wal", "000002.wal"}));
}

TEST_F(CompactionTest, ARangeLeavesOtherSegmentsAlone) {
  open();
  segment({"a=1", "b=1"});
  segment({"a=2", "a=3", "a=4"});
  segment({"a=5", "b=2"});
  const auto at = [&](Sequence sequence) { return wal_->read_from(sequence)->position(); };
  compact({.from = at(1), .to = at(6)});  // only one file lies in it whole
  EXPECT_EQ(lines_of(*wal_), (Lines{"0 a=1", "1 b=1", "4 a=4", "5 a=5", "6 b=2"}));
  EXPECT_EQ(files(), (Lines{"000000.wal", "000001-000001.wal", "000002.wal", "000003.wal"}));
}

TEST_F(CompactionTest, DeletionTakesACompactedFileWhole) {
  open();
  segment({"a=1", "b=1"});
  segment({"a=2"});
  segment({"c=1"});
  compact({.to = wal_->read_from(Sequence{3})->position()});
  ASSERT_EQ(files(), (Lines{"000000-000001.wal", "000002.wal", "000003.wal"}));
  EXPECT_EQ(*wal_->delete_segments_before({.sequence = 2}), 0);
  EXPECT_EQ(*wal_->delete_segments_before({.sequence = 3}), 1);
  EXPECT_EQ(lines_of(*wal_), (Lines{"3 c=1"}));
  EXPECT_EQ(wal_->read_from(Sequence{1}).error().code, ErrorCode::gone);
}

TEST_F(CompactionTest, ARatioThatIsNotThereChangesNothing) {
  open();
  segment({"a=1", "b=1", "c=1", "d=1"});
  segment({"a=2"});
  EXPECT_EQ(compact({.garbage_ratio_min = 0.5}).files_after, 2);
  EXPECT_EQ(lines_of(*wal_).size(), 5);
  EXPECT_EQ(compact({.garbage_ratio_min = 0.01}).files_after, 1);
  for (const auto& options :
       {CompactionOptions{.garbage_ratio_min = 2}, CompactionOptions{.garbage_ratio_min = -1},
        CompactionOptions{.memory_bytes = kMiB - 1}}) {
    EXPECT_EQ(wal_->compact(options).error().code, ErrorCode::invalid_argument);
  }
}

TEST_F(CompactionTest, ACursorThatCannotBeReadKeepsEverything) {
  open();
  segment({"a=1", "a=2"});
  segment({"a=3"});
  ASSERT_TRUE(wal_->consumer("billing", {.from = end_of_log})->close());
  ASSERT_TRUE(disk_.flip_bit("log/cursors/billing.cursor", 50, 3));
  EXPECT_EQ(compact().files_before, 0);
  ASSERT_TRUE(wal_->drop_consumer("billing"));
  EXPECT_EQ(compact().records_after, 1);
}

TEST_F(CompactionTest, SegmentsThatAConsumerHasNotPassedAreLeftAlone) {
  open();
  segment({"a=1", "a=2"});
  segment({"a=3", "b=1", "b=2"});
  segment({"b=3"});
  auto consumer = wal_->consumer("slow");
  ASSERT_TRUE(consumer) << consumer.error().message;
  ASSERT_TRUE(wal_->sync());
  EXPECT_EQ(compact().files_before, 0);
  ASSERT_TRUE(consumer->commit({.sequence = 4}));
  ASSERT_TRUE(consumer->flush());
  EXPECT_EQ(compact().files_before, 1);
  ASSERT_TRUE(consumer->commit({.sequence = 5}));
  ASSERT_TRUE(consumer->flush());
  compact();
  EXPECT_EQ(lines_of(*wal_), (Lines{"2 a=3", "4 b=2", "5 b=3"}));
}

// The state of the snapshot holds k1, and replaying what follows has to take it away.
TEST_F(CompactionTest, ATombstoneThatAKeptSnapshotNeedsStays) {
  open();
  segment({"k1=v1", "k2=v1"});
  const auto at = wal_->current_position();
  auto snapshot = SnapshotWriter::begin(*wal_, at);
  ASSERT_TRUE(snapshot) << snapshot.error().message;
  segment({"-k1", "k2=v2"});
  EXPECT_EQ(compact({.dry_run = true}).tombstones_dropped, 0) << "while it is written";
  ASSERT_TRUE(snapshot->add({.key = "k1", .value = "v1", .epoch = {}, .sequence = 0}));
  ASSERT_TRUE(snapshot->add({.key = "k2", .value = "v1", .epoch = {}, .sequence = 1}));
  ASSERT_TRUE(snapshot->finish());
  EXPECT_EQ(compact().tombstones_dropped, 0);
  EXPECT_EQ(lines_of(*wal_), (Lines{"2 k1=(deleted)", "3 k2=v2"}));
  // A newer one in its place, and nobody needs it any more.
  auto newer = SnapshotWriter::begin(*wal_, wal_->current_position(), {.retain = 1});
  ASSERT_TRUE(newer);
  ASSERT_TRUE(newer->add({.key = "k2", .value = "v2", .epoch = {}, .sequence = 3}));
  ASSERT_TRUE(newer->finish());
  segment({"k2=v3"});
  EXPECT_EQ(compact().tombstones_dropped, 1);
  EXPECT_EQ(lines_of(*wal_), (Lines{"4 k2=v3"}));
}

// --- Snapshots and the log they stand on

class SnapshotHoldTest : public CompactionTest {
 protected:
  void snapshot(std::uint32_t retain = 2) {
    auto writer = SnapshotWriter::begin(*wal_, wal_->current_position(), {.retain = retain});
    ASSERT_TRUE(writer) << writer.error().message;
    ASSERT_TRUE(writer->finish());
  }
};

TEST_F(SnapshotHoldTest, TheLogIsNotCutPastTheOldestKept) {
  open();
  segment({"a=1"});
  snapshot();
  segment({"a=2"});
  snapshot();
  segment({"a=3"});
  EXPECT_EQ(*wal_->delete_segments_before({.sequence = 3}), 1);
  EXPECT_EQ(wal_->stats().first_sequence, 1);
  const auto holds = wal_->stats().holds;
  ASSERT_EQ(holds.size(), 2);
  EXPECT_EQ(holds[0].what, "snapshot");
  EXPECT_EQ(holds[0].position.sequence, 1);
  snapshot(1);
  EXPECT_EQ(*wal_->delete_segments_before({.sequence = 3}), 2);
  EXPECT_EQ(lines_of(*wal_), Lines{});
}

TEST_F(SnapshotHoldTest, AnotherLogsHoldsNothing) {
  options_.directory = "other";
  open();
  segment({"a=1"});
  snapshot();
  const auto name = disk_.list_files("other/snapshots")->front();
  const auto bytes = *disk_.read_file("other/snapshots/" + name);
  options_.directory = "log";
  open();
  segment({"a=1"});
  segment({"a=2"});
  ASSERT_TRUE(disk_.write_file("log/snapshots/" + name, bytes));
  EXPECT_TRUE(wal_->stats().holds.empty());
  EXPECT_EQ(*wal_->delete_segments_before({.sequence = 2}), 2);
}

TEST_F(SnapshotHoldTest, ALogThatEndsBeforeOneIsDamaged) {
  open();
  segment({"a=1"});
  ASSERT_TRUE(wal_->sync());
  const auto before = disk_.clone();
  segment({"a=2"});
  snapshot();
  const auto name = disk_.list_files("log/snapshots")->front();
  const auto bytes = *disk_.read_file("log/snapshots/" + name);
  before->crash_process();
  ASSERT_TRUE(before->write_file("log/snapshots/" + name, bytes));
  auto options = options_;
  options.file_system = before.get();
  const auto opened = Wal::open(options);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::damaged);
  EXPECT_NE(opened.error().message.find(name), std::string::npos) << opened.error().message;
}

TEST_F(CompactionTest, DamageInTheRangeIsToldAndNothingIsReplaced) {
  open();
  segment({"a=1", "a=2"});
  segment({"a=3"});
  ASSERT_TRUE(wal_->close());  // else the ring heals it
  wal_.reset();
  ASSERT_TRUE(disk_.flip_bit("log/000000.wal", 2 * 4096 + 45, 0));
  open();
  const auto report = wal_->compact();
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, ErrorCode::damaged);
  EXPECT_NE(report.error().message.find("000000.wal"), std::string::npos);
  EXPECT_EQ(files(), (Lines{"000000.wal", "000001.wal", "000002.wal"}));
}

// --- Beside others

TEST_F(CompactionTest, WhatIsDeletedMeanwhileStaysDeleted) {
  open();
  segment({"a=1", "a=2"});
  segment({"a=3", "b=1"});
  segment({"b=2"});
  int steps = 0;
  const auto step = [&](std::uint64_t) -> Result<void> {
    if (++steps == 2) {  // it has found what is live, and is writing
      EXPECT_EQ(*wal_->delete_segments_before({.sequence = 2}), 1);
    }
    return {};
  };
  const auto report = compact_with(disk_, 3, step, no_limits);
  ASSERT_GE(steps, 2);
  EXPECT_TRUE(report) << report.error().message;
  EXPECT_EQ(lines_of(*wal_), (Lines{"2 a=3", "3 b=1", "4 b=2"}));
  EXPECT_EQ(files(), (Lines{"000001.wal", "000002.wal", "000003.wal"}));
}

// Only what would become smaller is written anew: what an older file keeps must stay hidden.
TEST_F(CompactionTest, ATombstoneStaysWhereAnOlderFileIsLeftAsItIs) {
  open();
  ASSERT_TRUE(wal_->append(Record::put("a", "1")));
  segment({"k=1"});
  segment({"-a", "b=1", "b=2", "b=3"});
  const auto report = compact_with(disk_, 2, go_on, no_limits, 1);
  ASSERT_TRUE(report) << report.error().message;
  ASSERT_EQ(files(), (Lines{"000000.wal", "000001-000001.wal", "000002.wal"}));
  EXPECT_EQ(lines_of(*wal_), (Lines{"0 a=1", "1 k=1", "2 a=(deleted)", "5 b=3"}));
  EXPECT_EQ(report->tombstones_dropped, 0);
}

// A file is read again only for what is left of it, and that may be a tombstone alone.
TEST_F(CompactionTest, ATombstoneThatStaysIsFoundInAFileOfNothingElse) {
  open();
  ASSERT_TRUE(wal_->append(Record::put("a", "1")));
  segment({"k=1", "m=1"});
  segment({"-a", "b=1", "b=2", "b=3"});
  segment({"b=4"});
  const auto report = compact_with(disk_, 3, go_on, no_limits, 4000);
  ASSERT_TRUE(report) << report.error().message;
  ASSERT_EQ(files(), (Lines{"000000.wal", "000001-000002.wal", "000003.wal"}));
  EXPECT_EQ(lines_of(*wal_), (Lines{"0 a=1", "1 k=1", "2 m=1", "3 a=(deleted)", "7 b=4"}));
  EXPECT_EQ(report->tombstones_dropped, 0);
}

TEST_F(CompactionTest, WhatIsDeletedBeforeItIsReadIsPassedOver) {
  open();
  segment({"c=1", "a=2"});
  segment({"a=3", "b=1", "b=2"});
  segment({"b=3"});
  bool is_first = true;
  const auto step = [&](std::uint64_t) -> Result<void> {
    if (std::exchange(is_first, false)) {  // it has read all of it once, and holds none of it open
      EXPECT_EQ(*wal_->delete_segments_before({.sequence = 2}), 1);
    }
    return {};
  };
  const auto report = compact_with(disk_, 3, step, no_limits);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->files_before, 2);
  EXPECT_EQ(lines_of(*wal_), (Lines{"2 a=3", "5 b=3"}));
}

// A consumer may come, or go back, while a compaction is at work.
TEST_F(CompactionTest, WhatSomebodyComesToNeedMeanwhileStays) {
  open();
  segment({"a=1", "a=2"});
  segment({"a=3", "b=1"});
  int asked = 0;
  const auto report = compact_with(disk_, 2, go_on, [&] {
    return ++asked == 1 ? CompactionLimits{} : CompactionLimits{.compact_before = 3};
  });
  EXPECT_TRUE(report);
  EXPECT_EQ(lines_of(*wal_).size(), 4);
  EXPECT_EQ(files(), (Lines{"000000.wal", "000001.wal", "000002.wal"}));
}

// A snapshot that is older than a tombstone may come to be kept while a compaction is at work.
TEST_F(CompactionTest, ATombstoneThatSomebodyComesToNeedMeanwhileStays) {
  open();
  segment({"a=1", "b=1"});
  segment({"-a", "b=2"});
  int asked = 0;
  const auto report = compact_with(disk_, 2, go_on, [&] {
    return ++asked == 1 ? CompactionLimits{} : CompactionLimits{.drop_before = 2};
  });
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->tombstones_dropped, 0);
  EXPECT_EQ(lines_of(*wal_).size(), 4);
}

// Goal: what a compaction cut short has left is removed before anything else; where that fails, it
// is told, and done later.
TEST_F(CompactionTest, VoidSegmentsThatCannotBeRemovedAreToldAndGoLater) {
  open();
  segment({"a=1", "a=2"});
  segment({"a=3", "b=1"});
  segment({"b=2"});
  const auto covered = *disk_.read_file("log/000000.wal");
  const auto leave_void = [&] { ASSERT_TRUE(disk_.write_file("log/000000.wal", covered)); };
  compact({.to = wal_->read_from(Sequence{4})->position()});
  const auto compacted = files();
  ASSERT_EQ(compacted, (Lines{"000000-000001.wal", "000002.wal", "000003.wal"}));
  for (const auto operation : {testing::Operation::directory_sync, testing::Operation::remove}) {
    leave_void();
    disk_.fail_nth(operation, 0, EIO);
    EXPECT_EQ(wal_->compact().error().code, ErrorCode::io);
    EXPECT_EQ(lines_of(*wal_), (Lines{"2 a=3", "3 b=1", "4 b=2"}));
    EXPECT_EQ(compact({.garbage_ratio_min = 1}).files_after, 2);
    EXPECT_EQ(files(), compacted);
  }
  ASSERT_EQ(*wal_->delete_segments_before({.sequence = 0}), 0);  // what follows syncs no more
  leave_void();
  disk_.fail_nth(testing::Operation::remove, 0, EIO);
  EXPECT_EQ(wal_->delete_segments_before({.sequence = 4}).error().code, ErrorCode::io);
  EXPECT_EQ(lines_of(*wal_).size(), 3);
  EXPECT_EQ(*wal_->delete_segments_before({.sequence = 4}), 1);
  EXPECT_EQ(files(), (Lines{"000002.wal", "000003.wal"}));
}

// Goal: who is told of the progress can end it, at any time, and nothing is lost.
TEST_F(CompactionTest, AStepThatFailsEndsIt) {
  options_.segment_bytes = 4 * kMiB;
  open();
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(wal_->append(Record::put(fmt::format("k{}", i % 2), std::string(kMiB, 'v'))));
  }
  ASSERT_TRUE(wal_->rotate());
  const auto end_at_every_step = [&](std::uint64_t active, const Lines& compacted) {
    const auto before = files();
    for (int last = 0;; ++last) {
      int steps = 0;
      const auto step = [&](std::uint64_t /*bytes*/) -> Result<void> {
        if (steps++ == last) {
          return std::unexpected(Error{.code = ErrorCode::closed, .message = "closing"});
        }
        return {};
      };
      const auto report = compact_with(disk_, active, step, no_limits);
      if (steps <= last) {
        EXPECT_TRUE(report) << report.error().message;
        break;
      }
      ASSERT_FALSE(report);
      EXPECT_EQ(report.error().code, ErrorCode::closed);
      EXPECT_EQ(files(), before);
    }
    EXPECT_EQ(files(), compacted);
  };
  end_at_every_step(1, {"000000-000000.wal", "000001.wal"});
  segment({"-k0", "-k1"});  // of which nothing is left
  end_at_every_step(2, {"000000-000001.wal", "000002.wal"});
  EXPECT_EQ(lines_of(*wal_), Lines{});
}

// Goal: a failed write of any part of any frame is told, and nothing is replaced.
// Method: what is written at once is 256 KiB: the end of the first record is moved so that it ends
// in each part of what follows, a frame of a record or the last one.
TEST_F(CompactionTest, AFailedWriteOfAnyPartEndsIt) {
  constexpr std::size_t kWriteBytes = 256 * kKiB;
  options_.segment_bytes = 2 * kMiB;
  for (const bool one_follows : {true, false}) {
    for (std::size_t bytes_short = 0; bytes_short < 80; bytes_short += testing::kCrashPointStride) {
      SimulatedDisk disk(1);
      auto options = options_;
      options.file_system = &disk;
      auto opened = Wal::open(options);
      ASSERT_TRUE(opened) << opened.error().message;
      auto& wal = opened->wal;
      ASSERT_TRUE(wal.append(Record::put("b", std::string(2 * kWriteBytes, 'v'))));
      const std::string value(kWriteBytes - 4096 - kFrameHeaderBytes - bytes_short, 'v');
      ASSERT_TRUE(wal.append(Record::put("a", value)));
      ASSERT_TRUE(wal.append(one_follows ? Record::put("b", "") : Record::remove("b")));
      ASSERT_TRUE(wal.rotate());
      disk.inject({.operations = testing::Operation::write, .name_suffix = "compact.tmp"});
      const auto report = wal.compact();
      ASSERT_FALSE(report) << bytes_short;
      EXPECT_EQ(report.error().code, ErrorCode::io);
      EXPECT_EQ(lines_of(wal).size(), 3) << bytes_short;
      const auto again = wal.compact();
      ASSERT_TRUE(again) << again.error().message;
      EXPECT_EQ(lines_of(wal).size(), one_follows ? 2 : 1) << bytes_short;
    }
  }
}

TEST_F(CompactionTest, WhereSegmentsGoAgainAndAgainItGivesUp) {
  open();
  segment({"a=1", "a=2"});
  segment({"a=3"});
  disk_.inject({.operations = testing::Operation::open,
                .system_errno = ENOENT,
                .repeat = testing::Repeat::forever,
                .name_suffix = "000001.wal"});
  const auto report = wal_->compact();
  disk_.clear_faults();
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().system_errno, ENOENT);
  EXPECT_EQ(compact().records_after, 1);
}

// What has no footer is not sealed, and a file of another log is not ours to read.
TEST_F(CompactionTest, AFileThatIsNotSealedOrNotOursEndsTheRange) {
  for (const auto* const part : {"footer", "header", "other log"}) {
    options_.directory = fmt::format("log of a bad {}", part);
    const auto path = options_.directory.string() + "/000001.wal";
    open();
    segment({"a=1", "a=2", "a=3"});
    segment({"a=4"});
    segment({"a=5"});
    auto bytes = *disk_.read_file(path);
    if (part == std::string_view("other log")) {
      auto header = *decode_segment_header(bytes);
      header.log_id.bytes[0] ^= std::byte{1};
      encode_segment_header(header, bytes.data());
    } else {
      bytes[part == std::string_view("footer") ? bytes.size() - 20 : 40] ^= std::byte{1};
    }
    ASSERT_TRUE(disk_.write_file(path, bytes));
    const auto report = compact();
    EXPECT_EQ(report.files_before, 1) << part;
    EXPECT_EQ(report.records_after, 1) << part;
  }
}

// In the background, when a segment is full and there can be so much garbage.
TEST(CompactionThreadsTest, APolicyCompactsByItself) {
  const auto path =
      std::filesystem::temp_directory_path() / fmt::format("nori-policy-{}", ::getpid());
  std::filesystem::remove_all(path);
  auto options = testing::small_options();
  options.directory = path;
  options.background_thread = true;
  options.compaction = {.garbage_ratio = 0.5};
  auto opened = Wal::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  const auto has_compacted = [&] {
    return std::ranges::any_of(std::filesystem::directory_iterator(path), [](const auto& file) {
      return file.path().filename().string().find('-') != std::string::npos;
    });
  };
  while (!has_compacted() && std::chrono::steady_clock::now() < deadline) {
    for (int i = 0; i < 100; ++i) {
      ASSERT_TRUE(opened->wal.append(Record::put(fmt::format("k{}", i), filled("v"))));
    }
  }
  EXPECT_TRUE(has_compacted());
  EXPECT_EQ(opened->wal.stats().compaction_failure, std::nullopt);
  EXPECT_LT(state_of(opened->wal).size(), 101);
  ASSERT_TRUE(opened->wal.close());
  std::filesystem::remove_all(path);
}

// A look that fails is taken for none; what is asked for stays asked for.
TEST(CompactionThreadsTest, APolicyThatCannotLookLooksAgain) {
  SimulatedDisk disk(1);
  auto options = testing::small_options();
  options.file_system = &disk;
  options.background_thread = true;
  options.compaction = {.garbage_ratio = 0.5};
  auto opened = Wal::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  const auto fill = [&] {
    for (int i = 0; i < 200; ++i) {
      ASSERT_TRUE(opened->wal.append(Record::put("k", filled("v"))));
    }
  };
  for (const auto operation : {testing::Operation::list, testing::Operation::open}) {
    const auto hits = disk.faults_hit();
    disk.inject({.operations = operation,
                 .repeat = testing::Repeat::forever,
                 .name_suffix = operation == testing::Operation::open ? "0.wal" : ""});
    fill();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (disk.faults_hit() == hits && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_NE(disk.faults_hit(), hits);
    disk.clear_faults();
    EXPECT_FALSE(opened->wal.stats().failure);
  }
  ASSERT_TRUE(opened->wal.close());
}

TEST(CompactionThreadsTest, OneThatIsHeldToItsRateEndsWhenTheLogIsClosed) {
  SimulatedDisk disk(1);
  auto options = testing::small_options();
  options.file_system = &disk;
  auto opened = Wal::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(opened->wal.append(Record::put("k", filled("v"))));
  }
  ASSERT_TRUE(opened->wal.rotate());
  const auto began = std::chrono::steady_clock::now();
  std::jthread compacting([&] {
    const auto report = opened->wal.compact({.bytes_per_second = 1});
    ASSERT_FALSE(report);
    EXPECT_EQ(report.error().code, ErrorCode::closed);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  ASSERT_TRUE(opened->wal.close());
  compacting.join();
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(20));
}

// Goal: appends, readers, followers and deletions go on while ranges are replaced under them.
TEST(CompactionThreadsTest, EverybodyGoesOn) {
  const auto path =
      std::filesystem::temp_directory_path() / fmt::format("nori-compaction-{}", ::getpid());
  std::filesystem::remove_all(path);
  auto options = testing::small_options();
  options.directory = path;
  options.background_thread = true;
  auto opened = Wal::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  auto& wal = opened->wal;
  std::atomic<bool> is_over{false};
  std::jthread appender([&] {
    for (int i = 0; i < 6000; ++i) {
      const auto key = fmt::format("k{}", i % 50);
      ASSERT_TRUE(wal.append(Record::put(key, fmt::format("{:.>300}", i))));
    }
    is_over.store(true);
  });
  std::jthread reader([&] {
    while (!is_over.load()) {
      auto from_begin = wal.read_from(begin_of_log);
      ASSERT_TRUE(from_begin) << from_begin.error().message;
      std::optional<Sequence> last;
      for (const auto& entry : *from_begin) {
        if (!entry && entry.error().code == ErrorCode::gone) {
          break;
        }
        ASSERT_TRUE(entry) << entry.error().message;
        ASSERT_TRUE(!last || *last < entry->sequence);
        // Every value says when it was appended.
        ASSERT_EQ(entry->value, fmt::format("{:.>300}", entry->sequence));
        last = entry->sequence;
      }
    }
  });
  std::jthread follower([&] {
    auto from_begin = wal.read_from(begin_of_log);
    ASSERT_TRUE(from_begin);
    Sequence next = 0;
    while (next < 6000) {
      const auto entry = from_begin->next();
      if (!entry && entry.error().code == ErrorCode::gone) {
        from_begin = wal.read_from(begin_of_log);
        ASSERT_TRUE(from_begin);
        continue;
      }
      ASSERT_TRUE(entry) << entry.error().message;
      if (!*entry) {
        ASSERT_TRUE(from_begin->follow(std::chrono::milliseconds(10)));
        continue;
      }
      next = std::max(next, (*entry)->sequence + 1);
    }
  });
  std::jthread compactor([&] {
    while (!is_over.load()) {
      const auto report = wal.compact();
      ASSERT_TRUE(report) << report.error().message;
    }
  });
  std::jthread collector([&] {
    while (!is_over.load()) {
      auto position = wal.current_position();
      position.sequence -= std::min<Sequence>(position.sequence, 2000);
      ASSERT_TRUE(wal.delete_segments_before(position));
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  });
  appender.join();
  reader.join();
  follower.join();
  compactor.join();
  collector.join();
  ASSERT_TRUE(wal.close());
  const auto report = verify(path);
  ASSERT_TRUE(report);
  EXPECT_TRUE(report->damages.empty());
  std::filesystem::remove_all(path);
}

// --- Whatever happens to it

class CompactionCrashTest : public CompactionTest {
 protected:
  CompactionCrashTest() {
    open();
    segment({"a=1", "b=1", "c=1", "d=1"});
    segment({"a=2", "-d", "b=2"});
    compact();
    segment({"a=3", "e=1"});
    segment({"-b", "e=2"});
    state_ = state_of(*wal_);
    EXPECT_TRUE(wal_->append(Record::put("tail", "1"), Durability::durable));
    state_["tail"] = "1";
    wal_.reset();
  }

  WalOptions options_on(SimulatedDisk& disk) const {
    auto options = options_;
    options.file_system = &disk;
    return options;
  }

  // The same state, and a log that is sound, takes records, and can be compacted.
  void expect_whole(SimulatedDisk& disk, const std::string& what) {
    for (const auto verification : {Verification::all, Verification::tail}) {
      auto options = options_on(disk);
      options.verification = verification;
      options.mode = OpenMode::read_only;
      const auto opened = Wal::open(options);
      ASSERT_TRUE(opened) << what << ": " << opened.error().message << testing::trace_of(disk);
      EXPECT_FALSE(opened->recovery.corruption_detected) << what << opened->recovery.reason;
      ASSERT_EQ(state_of(opened->wal), state_) << what << testing::trace_of(disk);
    }
    const auto opened = Wal::open(options_on(disk));
    ASSERT_TRUE(opened) << what << ": " << opened.error().message;
    ASSERT_EQ(state_of(opened->wal), state_) << what;
    const auto report = verify("log", &disk);
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_TRUE(report->damages.empty()) << what << report->damages.front().reason;
  }

  std::map<std::string, std::string> state_;
};

TEST_F(CompactionCrashTest, ACrashAtAnyStepLosesNothing) {
  std::uint64_t seed = 0;
  const auto work = [&](SimulatedDisk& disk) {
    disk.set_tracing(true);
    auto opened = Wal::open(options_on(disk));
    if (opened) {
      static_cast<void>(opened->wal.compact());
      // What was covered is deleted last.
      static_cast<void>(opened->wal.compact({.keep = Keep::all}));
    }
    return std::make_unique<Result<Opened>>(std::move(opened));
  };
  testing::for_each_crash_point(
      disk_, work, [&](SimulatedDisk& disk, const Result<Opened>&, std::uint64_t operations) {
        for (const auto& form : testing::kCrashForms) {
          const auto copy = testing::crashed_copy(disk, form, ++seed);
          expect_whole(*copy, fmt::format("{} after {} operations", form.name, operations));
          if (HasFatalFailure()) {
            return;
          }
          // And once more within the next one.
          const auto again = testing::crashed_copy(disk, form, seed);
          again->crash_after(operations % 11);
          {
            auto opened = Wal::open(options_on(*again));
            if (opened) {
              static_cast<void>(opened->wal.compact());
            }
          }
          again->crash_process();
          expect_whole(*again, fmt::format("{} after {} operations, and {} more", form.name,
                                           operations, operations % 11));
        }
      });
}

// A covering file that goes must not bring back what it covered.
TEST_F(CompactionCrashTest, DeletionAfterACompactionCutShortBringsNothingBack) {
  std::uint64_t seed = 0;
  const auto work = [&](SimulatedDisk& disk) {
    disk.set_tracing(true);
    auto opened = Wal::open(options_on(disk));
    if (opened) {
      static_cast<void>(opened->wal.compact());
    }
    return std::make_unique<Result<Opened>>(std::move(opened));
  };
  testing::for_each_crash_point(
      disk_, work, [&](SimulatedDisk& disk, const Result<Opened>&, std::uint64_t operations) {
        for (const auto& form : testing::kCrashForms) {
          const auto copy = testing::crashed_copy(disk, form, ++seed);
          {
            auto opened = Wal::open(options_on(*copy));
            ASSERT_TRUE(opened);
            ASSERT_TRUE(opened->wal.delete_segments_before({.sequence = 11}));
            copy->power_cut(seed, form.options);
          }
          const auto opened = Wal::open(options_on(*copy));
          ASSERT_TRUE(opened) << opened.error().message << testing::trace_of(*copy);
          EXPECT_EQ(opened->wal.stats().first_sequence, 11) << operations;
          EXPECT_EQ(lines_of(opened->wal), Lines{"11 tail=1"});
        }
      });
}

// Goal: a failure of any call leaves the log as it was or compacted.
// Method: each call of a compaction fails, once and for good; then beside what it asks first.
class CompactionFaultsTest : public CompactionCrashTest {
 protected:
  void fail_every_call(std::initializer_list<int> errors) {
    using testing::Operation;
    for (const auto operation :
         {Operation::open, Operation::read, Operation::status, Operation::list, Operation::write,
          Operation::sync, Operation::allocate, Operation::truncate, Operation::create,
          Operation::rename, Operation::remove, Operation::directory_sync}) {
      for (const auto error : errors) {
        for (const auto repeat : {testing::Repeat::once, testing::Repeat::forever}) {
          for (std::uint64_t n = 0;; ++n) {
            const auto disk = disk_.clone();
            auto opened = Wal::open(options_on(*disk));
            ASSERT_TRUE(opened);
            disk->fail_nth(operation, n, error, repeat);
            const auto report = opened->wal.compact();
            const bool was_hit = disk->faults_hit() != 0;
            disk->clear_faults();
            EXPECT_TRUE(opened->wal.append(Record::put("tail", "1")));
            EXPECT_EQ(state_of(opened->wal), state_);
            {
              const auto crashed = testing::crashed_copy(*disk, testing::kPowerKeepsNothing, n);
              expect_whole(*crashed,
                           fmt::format("{} {} fails", testing::operation_name(operation), n));
            }
            ASSERT_TRUE(opened->wal.close());
            expect_whole(*disk, fmt::format("{} {} fails", testing::operation_name(operation), n));
            if (HasFatalFailure()) {
              return;
            }
            if (!was_hit) {
              EXPECT_TRUE(report);
              break;
            }
          }
        }
      }
    }
  }
};

TEST_F(CompactionFaultsTest, LeaveTheLogAsItWasOrCompacted) { fail_every_call({EIO, ENOSPC}); }

TEST_F(CompactionFaultsTest, BesideAConsumerAndASnapshotToo) {
  open();
  auto consumer = wal_->consumer("billing", {.from = end_of_log});
  ASSERT_TRUE(consumer) << consumer.error().message;
  ASSERT_TRUE(consumer->close());
  auto snapshot = SnapshotWriter::begin(*wal_, wal_->current_position());
  ASSERT_TRUE(snapshot) << snapshot.error().message;
  ASSERT_TRUE(snapshot->finish());
  wal_.reset();
  fail_every_call({EIO});
}

}  // namespace
}  // namespace nori::gc_tests
