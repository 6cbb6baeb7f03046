// Snapshots of an open log. What crashes make of them: tests/crash/snapshots_test.cc; the files:
// src/snapshot/snapshot_test.cc.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "nori/snapshot.h"
#include "nori/wal.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using testing::SimulatedDisk;

class SnapshotWriterTest : public ::testing::Test {
 protected:
  SnapshotWriterTest() { open(); }

  void open(OpenMode mode = OpenMode::create) { open(mode, disk_); }
  void open(OpenMode mode, SimulatedDisk& disk) {
    log_.reset();
    auto options = testing::small_options();
    options.directory = "log";
    options.file_system = &disk;
    options.fsync = FsyncPolicy::os();
    options.mode = mode;
    options.background_thread = false;
    auto opened = Wal::open(options);
    ASSERT_TRUE(opened) << opened.error().message;
    log_.emplace(std::move(opened->wal));
  }

  Appended put(std::string_view key) {
    const auto appended = log_->append(Record::put(key, "value"));
    EXPECT_TRUE(appended) << appended.error().message;
    return appended.value_or(Appended{});
  }

  SnapshotFile write(const Position& at) {
    auto writer = SnapshotWriter::begin(*log_, at);
    EXPECT_TRUE(writer) << writer.error().message;
    if (!writer) {
      return {};
    }
    const auto written = writer->finish();
    EXPECT_TRUE(written) << written.error().message;
    return written ? written->file : SnapshotFile{};
  }

  [[nodiscard]] ErrorCode refused(const Position& at) {
    const auto writer = SnapshotWriter::begin(*log_, at);
    return writer ? ErrorCode::io : writer.error().code;
  }

  SimulatedDisk disk_{1};
  std::optional<Wal> log_;
};

TEST_F(SnapshotWriterTest, WhatItIsOfIsDurableFirst) {
  put("a");
  const auto end = put("b").end;
  put("c");
  ASSERT_EQ(log_->durable_position().sequence, 0U);
  const auto writer = SnapshotWriter::begin(*log_, end);
  ASSERT_TRUE(writer);
  EXPECT_GE(log_->durable_position().sequence, 2U);
}

TEST_F(SnapshotWriterTest, WhereTheLogCannotBecomeDurableThereIsNone) {
  const auto end = put("a").end;
  disk_.fail_nth({testing::Operation::durable_write, testing::Operation::sync}, 0, EIO,
                 testing::Repeat::forever);
  EXPECT_FALSE(SnapshotWriter::begin(*log_, end));
  disk_.clear_faults();
  EXPECT_FALSE(disk_.list_files("log/snapshots"));
}

TEST_F(SnapshotWriterTest, ItCarriesTheEpochOfTheRecordBefore) {
  EXPECT_EQ(write({}).epoch, Epoch{});
  const auto first = put("a").end;
  ASSERT_TRUE(log_->close());
  open();
  const auto second = put("b").end;
  auto reader = log_->read_from(begin_of_log);
  const auto first_epoch = (*reader->next())->epoch;
  const auto second_epoch = (*reader->next())->epoch;
  ASSERT_NE(first_epoch, second_epoch);
  EXPECT_EQ(write(first).epoch, first_epoch);
  EXPECT_EQ(write(second).epoch, second_epoch);
}

TEST_F(SnapshotWriterTest, WhereTheRecordBeforeIsGoneItCarriesNoEpoch) {
  const auto first = put("a").end;
  ASSERT_TRUE(log_->rotate());
  put("b");
  ASSERT_EQ(log_->delete_segments_before(first), 1U);
  EXPECT_EQ(write(first).epoch, Epoch{});
}

TEST_F(SnapshotWriterTest, WhereCompactionTookTheRecordBeforeItCarriesNoEpoch) {
  const auto first = put("a").end;
  const auto second = put("b").end;
  put("a");
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(log_->append(Record::put("b", std::string(3000, 'v'))));
  }
  ASSERT_TRUE(log_->rotate());
  const auto report = log_->compact();
  ASSERT_TRUE(report) << report.error().message;
  ASSERT_EQ(report->records_after, 2U);
  EXPECT_EQ(write(first).epoch, Epoch{}) << "the next one left is another";
  EXPECT_EQ(write(second).epoch, Epoch{});
  EXPECT_NE(write(log_->current_position()).epoch, Epoch{});
}

TEST_F(SnapshotWriterTest, WhereCompactionLeftNothingItCarriesNoEpoch) {
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(log_->append(Record::put("a", std::string(3000, 'v'))));
  }
  ASSERT_TRUE(log_->append(Record::remove("a")));
  ASSERT_TRUE(log_->rotate());
  const auto report = log_->compact();
  ASSERT_TRUE(report) << report.error().message;
  ASSERT_EQ(report->records_after, 0U);
  EXPECT_EQ(write(log_->current_position()).epoch, Epoch{});
}

// Goal: what cannot be read is told: no epoch is made up.
// Method: each call of taking a snapshot fails, once and from then on.
TEST_F(SnapshotWriterTest, ItsEpochIsTheRightOneOrItIsNotTaken) {
  using testing::Operation;
  const auto end = put("a").end;
  ASSERT_TRUE(log_->sync());
  const auto epoch = (*log_->read_from(begin_of_log)->next())->epoch;
  log_.reset();
  const auto start = disk_.clone();
  for (const auto operation :
       {Operation::open, Operation::read, Operation::status, Operation::list, Operation::write,
        Operation::sync, Operation::create, Operation::rename, Operation::directory_sync}) {
    for (const auto repeat : {testing::Repeat::once, testing::Repeat::forever}) {
      for (std::uint64_t after = 0;; ++after) {
        const auto disk = start->clone();
        open(OpenMode::existing, *disk);
        disk->fail_nth(operation, after, EIO, repeat);
        const auto written = [&]() -> Result<SnapshotWritten> {
          auto writer = SnapshotWriter::begin(*log_, end);
          return writer ? writer->finish() : std::unexpected(writer.error());
        }();
        const bool struck = disk->faults_hit() != 0;
        disk->clear_faults();
        const auto where = fmt::format("{} {}", testing::operation_name(operation), after);
        if (written) {
          EXPECT_EQ(written->file.epoch, epoch) << where;
        } else {
          EXPECT_EQ(written.error().code, ErrorCode::io) << where;
        }
        log_.reset();
        if (!struck) {
          ASSERT_TRUE(written) << where;
          break;
        }
      }
    }
  }
}

TEST_F(SnapshotWriterTest, OneIsWrittenAtATime) {
  const auto end = put("a").end;
  {
    auto writer = SnapshotWriter::begin(*log_, end);
    ASSERT_TRUE(writer);
    EXPECT_EQ(refused(end), ErrorCode::busy);
    auto moved = std::move(*writer);
    EXPECT_EQ(refused(end), ErrorCode::busy);
  }
  auto writer = SnapshotWriter::begin(*log_, end);
  ASSERT_TRUE(writer && writer->finish());
  EXPECT_EQ(write(end).sequence, 1U) << "one that is finished is in nobody's way";
  EXPECT_EQ(refused({.sequence = 0}), ErrorCode::invalid_argument) << "older than the newest";
  EXPECT_EQ(write(end).sequence, 1U) << "what was refused is at work no more";
}

TEST_F(SnapshotWriterTest, WhatComesBehindItIsNotDeletedWhileItIsWritten) {
  const auto first = put("a").end;
  ASSERT_TRUE(log_->rotate());
  put("b");
  ASSERT_TRUE(log_->rotate());
  const auto end = put("c").end;
  {
    const auto writer = SnapshotWriter::begin(*log_, first);
    ASSERT_TRUE(writer) << writer.error().message;
    EXPECT_EQ(log_->deletable_before(end)->segments, 1U);
    EXPECT_EQ(log_->delete_segments_before(end), 1U);
    EXPECT_EQ(log_->apply_retention({.max_bytes = 1}), 0U);
    EXPECT_EQ(log_->stats().first_sequence, 1U);
  }
  EXPECT_EQ(log_->delete_segments_before(end), 1U) << "one that is given up needs nothing";
}

TEST_F(SnapshotWriterTest, BeforeTheFirstRecordLeftItIsRefused) {
  const auto first = put("a").end;
  ASSERT_TRUE(log_->rotate());
  put("b");
  ASSERT_EQ(log_->delete_segments_before(first), 1U);
  EXPECT_EQ(refused({.sequence = 0}), ErrorCode::invalid_argument);
  EXPECT_EQ(write(first).sequence, 1U) << "what was refused is at work no more";
}

TEST_F(SnapshotWriterTest, BeyondTheEndIsRefused) {
  put("a");
  EXPECT_EQ(refused({.sequence = 2}), ErrorCode::invalid_argument);
}

TEST_F(SnapshotWriterTest, AReadOnlyOrClosedLogHasNone) {
  put("a");
  ASSERT_TRUE(log_->close());
  EXPECT_EQ(refused({}), ErrorCode::closed);
  open(OpenMode::read_only);
  EXPECT_EQ(refused({}), ErrorCode::invalid_argument);
  EXPECT_FALSE(disk_.list_files("log/snapshots"));
}

TEST_F(SnapshotWriterTest, ALogWithSnapshotsOpensAsEver) {
  write(put("a").end);
  ASSERT_TRUE(log_->close());
  open(OpenMode::existing);
  EXPECT_EQ(log_->current_position().sequence, 1U);
  EXPECT_EQ(write(put("b").end).sequence, 2U);
}

TEST_F(SnapshotWriterTest, SnapshotsWithoutALogAreNotTakenForAnEmptyDirectory) {
  write(put("a").end);
  ASSERT_TRUE(log_->close());
  const auto names = disk_.list_files("log");
  ASSERT_TRUE(names);
  for (const auto& name : *names) {
    if (!name.ends_with('/')) {
      ASSERT_TRUE(disk_.remove_file("log/" + name));
    }
  }
  auto options = testing::small_options();
  options.directory = "log";
  options.file_system = &disk_;
  const auto opened = Wal::open(options);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::not_a_log);
  // They can still be read.
  const auto snapshot = SnapshotReader::open("log", {.file_system = &disk_});
  ASSERT_TRUE(snapshot) << snapshot.error().message;
  EXPECT_TRUE(snapshot->reader);
}

}  // namespace
}  // namespace nori
