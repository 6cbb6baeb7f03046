// What a compaction would take (nori/garbage.h).

#include "nori/garbage.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <string>

#include "tests/gc/compaction_fixture.h"

namespace nori::gc_tests {
namespace {

class GarbageTest : public CompactionTest {
 protected:
  std::string garbage() {
    const auto found = find_garbage("log", &disk_);
    if (!found) {
      return std::string(error_code_name(found.error().code));
    }
    std::string text;
    for (const auto& file : *found) {
      text += fmt::format("{}: {} of {}; ", file.file, file.records_live, file.records);
    }
    return text;
  }
};

TEST_F(GarbageTest, IsCountedInEveryFileBesideAWriter) {
  open();
  segment({"a=1", "b=1", "c=1"});
  segment({"a=2", "-b"});
  ASSERT_TRUE(wal_->append(Record::put("a", "3")));
  EXPECT_EQ(garbage(), "000000.wal: 1 of 3; 000001.wal: 0 of 2; 000002.wal: 1 of 1; ");
}

TEST_F(GarbageTest, WhereASegmentGoesMeanwhileTheyAreListedAgain) {
  open();
  segment({"a=1"});
  segment({"a=2"});
  const auto expected = garbage();
  const auto deleted_at = [&](std::uint64_t after, testing::Repeat repeat) {
    disk_.inject({.operations = testing::Operation::open,
                  .after = after,
                  .system_errno = ENOENT,
                  .repeat = repeat,
                  .name_suffix = ".wal"});
    auto found = garbage();
    disk_.clear_faults();
    return found;
  };
  EXPECT_EQ(deleted_at(0, testing::Repeat::once), expected) << "before its header is read";
  EXPECT_EQ(deleted_at(4, testing::Repeat::once), expected) << "before its records are";
  EXPECT_EQ(deleted_at(0, testing::Repeat::forever), "io");
}

TEST_F(GarbageTest, WithoutTheNewestSegmentWhatIsLeftIsCounted) {
  open();
  segment({"a=1", "a=2"});
  segment({"b=1"});
  wal_.reset();
  ASSERT_TRUE(disk_.remove_file("log/000002.wal"));
  EXPECT_EQ(garbage(), "000000.wal: 1 of 2; 000001.wal: 1 of 1; ");
}

TEST_F(GarbageTest, WhereThereIsNoLogThereIsNone) {
  ASSERT_TRUE(disk_.open_directory("log", true));
  EXPECT_EQ(garbage(), "not_a_log");
  open();
  segment({"a=1"});
  segment({"a=2"});
  wal_.reset();
  ASSERT_TRUE(disk_.flip_bit("log/000001.wal", 40, 0));
  EXPECT_EQ(garbage(), "damaged") << "a header";
  ASSERT_TRUE(disk_.flip_bit("log/000001.wal", 40, 0));
  ASSERT_TRUE(disk_.flip_bit("log/000000.wal", 2 * 4096 + 45, 0));
  EXPECT_EQ(garbage(), "damaged") << "a frame";
}

}  // namespace
}  // namespace nori::gc_tests
