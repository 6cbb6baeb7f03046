#include "store/origins.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "nori/store.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using testing::SimulatedDisk;
using Part = Origins::Part;

class OriginsTest : public ::testing::Test {
 protected:
  OriginsTest() {
    options_.wal = testing::small_options();
    options_.wal.file_system = &disk_;
    options_.wal.fsync = FsyncPolicy::os();
    auto opened = Store::open(options_);
    EXPECT_TRUE(opened) << opened.error().message;
    writer_.emplace(std::move(opened->store));
  }
  void fill() {
    for (int i = 0; i < 500; ++i) {
      ASSERT_TRUE(writer_->put(std::to_string(i), std::string(200, 'v')));
    }
  }
  // The log as another process reads it.
  Wal open_reading() {
    reading_ = options_.wal;
    reading_.mode = OpenMode::read_only;
    return std::move(Wal::open(reading_)->wal);
  }
  // What is left of the log from an origin on.
  static Result<std::uint64_t> records_from(const Wal& wal, const Origin& origin) {
    auto reader = wal.read_from(origin.from);
    if (!reader) {
      return std::unexpected(reader.error());
    }
    std::uint64_t records = 0;
    for (const auto& entry : *reader) {
      if (!entry) {
        return std::unexpected(entry.error());
      }
      ++records;
    }
    return records;
  }

  SimulatedDisk disk_{5};
  StoreOptions options_;
  WalOptions reading_;
  std::optional<Store> writer_;
};

// Goal: a checkpoint that deletes what is about to be read is no damage.
// Method: the writer compacts between the choice of an origin and the reading of the log.
TEST_F(OriginsTest, WhatACheckpointTookIsReadFromItsSnapshot) {
  fill();
  const auto wal = open_reading();
  Origins origins(wal, reading_);
  const auto first = origins.next();
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_FALSE(first->snapshot);
  ASSERT_TRUE(writer_->compact());
  ASSERT_TRUE(writer_->put("after", "it"));
  const auto cut = records_from(wal, *first);
  ASSERT_FALSE(cut);
  ASSERT_EQ(cut.error().code, ErrorCode::gone);
  ASSERT_TRUE(origins.go_on_after(*first, Part::log, cut.error()));
  const auto second = origins.next();
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(second->from, 500U);
  EXPECT_TRUE(second->snapshot);
  const auto records = records_from(wal, *second);
  ASSERT_TRUE(records) << records.error().message;
  EXPECT_EQ(*records, 1U);
  EXPECT_TRUE(origins.take_skipped().empty());
}

TEST_F(OriginsTest, ALogThatStaysCutIsDamagedInTheEnd) {
  const auto wal = open_reading();
  const Error gone{.code = ErrorCode::gone, .message = "it was deleted"};
  Origins origins(wal, reading_);
  const auto origin = origins.next();
  ASSERT_TRUE(origin);
  int tries = 1;
  auto go_on = origins.go_on_after(*origin, Part::log, gone);
  for (; go_on && tries < 1000; ++tries) {
    go_on = origins.go_on_after(*origin, Part::log, gone);
  }
  ASSERT_FALSE(go_on);
  EXPECT_EQ(go_on.error().code, ErrorCode::damaged);
  EXPECT_EQ(tries, 10);
  Origins of_writer(wal, options_.wal);
  const auto at_once = of_writer.go_on_after(*origin, Part::log, gone);
  ASSERT_FALSE(at_once) << "a writer has nobody beside it";
  EXPECT_EQ(at_once.error().code, ErrorCode::damaged);
}

TEST_F(OriginsTest, ABadSnapshotLeadsToTheOneBeforeAndThenToNone) {
  fill();
  ASSERT_TRUE(writer_->checkpoint());
  ASSERT_TRUE(writer_->put("more", ""));
  ASSERT_TRUE(writer_->checkpoint());
  const auto wal = open_reading();
  const Error damaged{.code = ErrorCode::damaged, .message = "a bad block"};
  Origins origins(wal, reading_);
  for (const Sequence from : {501U, 500U}) {
    const auto origin = origins.next();
    ASSERT_TRUE(origin) << origin.error().message;
    EXPECT_EQ(origin->from, from);
    ASSERT_TRUE(origins.go_on_after(*origin, Part::snapshot, damaged));
  }
  const auto last = origins.next();
  ASSERT_TRUE(last) << last.error().message;
  EXPECT_FALSE(last->snapshot);
  EXPECT_EQ(last->from, 0U);
  const auto skipped = origins.take_skipped();
  ASSERT_EQ(skipped.size(), 2U);
  EXPECT_EQ(skipped[0].sequence, 501U);
  EXPECT_EQ(skipped[1].reason, "a bad block");
}

TEST_F(OriginsTest, OtherErrorsAreAnsweredAsTheyAre) {
  const auto wal = open_reading();
  Origins origins(wal, reading_);
  const auto origin = origins.next();
  ASSERT_TRUE(origin);
  for (const auto& [part, code] : {std::pair{Part::log, ErrorCode::damaged},
                                   {Part::log, ErrorCode::io},
                                   {Part::snapshot, ErrorCode::io},
                                   {Part::snapshot, ErrorCode::gone}}) {
    const auto answer = origins.go_on_after(*origin, part, {.code = code, .message = "why"});
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, code);
    EXPECT_EQ(answer.error().message, "why");
  }
}

}  // namespace
}  // namespace nori
