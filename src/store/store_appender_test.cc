#include "store/store_appender.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

#include "nori/snapshot.h"
#include "nori/store.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using testing::SimulatedDisk;

class StoreAppenderTest : public ::testing::Test {
 protected:
  StoreAppenderTest() {
    options_.wal = testing::small_options();
    options_.wal.file_system = &disk_;
    options_.wal.fsync = FsyncPolicy::os();
    options_.open_threads = 1;
  }
  Store open_store() {
    auto opened = Store::open(options_);
    if (!opened) {
      throw std::runtime_error(opened.error().message);
    }
    return std::move(opened->store);
  }
  StoreAppender open_appender() {
    auto opened = StoreAppender::open(options_.wal);
    if (!opened) {
      throw std::runtime_error(opened.error().message);
    }
    return *std::move(opened);
  }
  void fill(Store& store, int records) {
    for (int i = 0; i < records; ++i) {
      ASSERT_TRUE(store.put(std::to_string(i), std::string(200, 'v')));
    }
  }
  // What a deletion of everything would take.
  std::uint64_t delete_all() {
    auto opened = Wal::open(options_.wal);
    EXPECT_TRUE(opened) << opened.error().message;
    const auto deleted = opened->wal.delete_segments_before(opened->wal.current_position());
    EXPECT_TRUE(deleted) << deleted.error().message;
    EXPECT_TRUE(opened->wal.close());
    return deleted.value_or(0);
  }

  SimulatedDisk disk_{5};
  StoreOptions options_;
};

TEST_F(StoreAppenderTest, WhatItAppendsIsInTheStore) {
  Version before;
  {
    auto store = open_store();
    ASSERT_TRUE(store.put("a", "1"));
    ASSERT_TRUE(store.put("b", "1"));
    ASSERT_TRUE(store.checkpoint());
    before = store.put("c", "1")->version;
  }
  auto appender = open_appender();
  ASSERT_TRUE(appender.log().append(Record::put("a", "2")));
  ASSERT_TRUE(appender.log().append(Record::remove("b")));
  ASSERT_TRUE(appender.close());
  const auto store = open_store();
  const auto a = store.get("a");
  ASSERT_TRUE(a && *a);
  EXPECT_EQ((*a)->value(), "2");
  EXPECT_EQ((*a)->version().sequence, before.sequence + 1);
  EXPECT_GT((*a)->version().epoch.number(), before.epoch.number());
  EXPECT_FALSE(*store.contains("b"));
  EXPECT_EQ((*store.get("c"))->version(), before);
}

// Of a log that was none of a store's before, all is held: it has no snapshot.
TEST_F(StoreAppenderTest, HoldsTheLogBackForAStoreThatIsYetToBeOpened) {
  {
    auto opened = Wal::open(options_.wal);
    ASSERT_TRUE(opened) << opened.error().message;
    for (int i = 0; i < 1000; ++i) {
      ASSERT_TRUE(opened->wal.append(Record::put(std::to_string(i), std::string(200, 'v'))));
    }
  }
  auto appender = open_appender();
  ASSERT_TRUE(appender.log().append(Record::put("one", "more")));
  ASSERT_TRUE(appender.close());
  EXPECT_EQ(delete_all(), 0U);
  EXPECT_EQ(open_store().stats().keys, 1001U);
}

TEST_F(StoreAppenderTest, RefusesALogThatBeginsBehindItsSnapshot) {
  {
    auto store = open_store();
    fill(store, 500);
    ASSERT_TRUE(store.compact());
  }
  const auto files = list_snapshots(options_.wal.directory, &disk_);
  ASSERT_TRUE(files && files->size() == 1);
  ASSERT_TRUE(
      disk_.flip_bit(options_.wal.directory.string() + "/snapshots/" + files->front().name, 0, 1));
  const auto opened = StoreAppender::open(options_.wal);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, ErrorCode::damaged);
  EXPECT_TRUE(opened.error().message.contains("begins at record 500")) << opened.error().message;
}

TEST_F(StoreAppenderTest, ItIsTheOnlyOneWhoWrites) {
  auto store = open_store();
  const auto refused = StoreAppender::open(options_.wal);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::locked);
  ASSERT_TRUE(store.close());
  auto appender = open_appender();
  const auto second = Store::open(options_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::locked);
  ASSERT_TRUE(appender.close());
}

}  // namespace
}  // namespace nori
