#include "log/durable_mark.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>

#include "nori/wal.h"
#include "segment/segment_name.h"
#include "segment/segment_reader.h"
#include "testing/fault_plan.h"
#include "testing/recovered_log.h"
#include "testing/results.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using testing::code_of;
using testing::ok;
using testing::SimulatedDisk;

class DurableMarkTest : public ::testing::Test {
 protected:
  // A log of three records that a killed process or close() has left.
  void make_log(bool closed, std::uint64_t ring_bytes = 64 * kKiB) {
    auto options = testing::small_options();
    options.directory = "log";
    options.file_system = &disk_;
    options.ring_bytes = ring_bytes;
    auto wal = ok(Wal::open(options)).wal;
    ok(wal.append(Record::put("a", "1")));
    ok(wal.append(Record::put("b", "1")));
    ok(wal.sync());
    ok(wal.append(Record::put("c", "1")));
    if (closed) {
      ok(wal.close());
    } else {
      disk_.crash_process();
    }
    directory_ = ok(disk_.open_directory("log", false));
    log_id_ = ok(SegmentReader::open(*directory_, 0))->header()->log_id;
  }
  Result<Sequence> mark() {
    const auto ring = ok(RingView::open(*directory_, log_id_));
    return durable_mark_on_disk(*directory_, log_id_, ring.get());
  }

  SimulatedDisk disk_{1};
  std::unique_ptr<io::Directory> directory_;
  LogId log_id_;
};

TEST_F(DurableMarkTest, BesideARingItIsTheRings) {
  make_log(false);
  EXPECT_EQ(ok(mark()), 2U);
}

TEST_F(DurableMarkTest, ARingWithoutAMarkSaysNothing) {
  make_log(false);
  auto bytes = ok(disk_.read_file("log/ring"));
  std::fill_n(bytes.begin() + kRingMarkOffset, 2 * kRingMarkStride, std::byte{0});
  ok(disk_.write_file("log/ring", bytes));
  EXPECT_EQ(ok(mark()), 0U);
}

TEST_F(DurableMarkTest, AClosedLogIsDurableToItsEnd) {
  make_log(true);
  EXPECT_EQ(ok(mark()), 3U);
}

TEST_F(DurableMarkTest, WithoutRingAndCloseFrameItIsTheNewestSegments) {
  make_log(false, WalOptions::kNoRing);
  EXPECT_EQ(ok(mark()), 0U);
}

TEST_F(DurableMarkTest, WhereThereIsNoSegmentOfTheLogNothingSaysSo) {
  make_log(true);
  log_id_.bytes[0] ^= std::byte{1};
  EXPECT_EQ(ok(mark()), 0U) << "of another log";
  log_id_.bytes[0] ^= std::byte{1};
  disk_.inject(
      {.operations = testing::Operation::open, .system_errno = ENOENT, .name_suffix = ".wal"});
  EXPECT_EQ(ok(mark()), 0U) << "deleted since it was listed";
  EXPECT_EQ(ok(mark()), 3U);
  ok(disk_.flip_bit("log/000000.wal", 40, 0));
  EXPECT_EQ(ok(mark()), 0U) << "a bad header";
  ok(disk_.remove_file("log/000000.wal"));
  EXPECT_EQ(ok(mark()), 0U) << "none";
}

TEST_F(DurableMarkTest, WhatCannotBeReadIsTold) {
  make_log(true);
  for (const auto operation : {testing::Operation::open, testing::Operation::read,
                               testing::Operation::status, testing::Operation::list}) {
    for (std::uint64_t after = 0;; ++after) {
      disk_.clear_faults();
      const auto hits = disk_.faults_hit();
      disk_.fail_nth(operation, after, EIO);
      const auto found = durable_mark_on_disk(*directory_, log_id_, nullptr);
      if (disk_.faults_hit() == hits) {
        EXPECT_EQ(ok(found), 3U);
        break;
      }
      EXPECT_EQ(code_of(found), "io") << testing::operation_name(operation) << " " << after;
    }
  }
}

}  // namespace
}  // namespace nori
