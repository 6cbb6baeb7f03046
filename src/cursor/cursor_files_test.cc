#include "cursor/cursor_files.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "base/little_endian.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using testing::SimulatedDisk;
using testing::Survival;

class CursorFilesTest : public ::testing::Test {
 protected:
  void write(std::string_view name, Sequence sequence) {
    CursorValue value;
    value.position.sequence = sequence;
    ASSERT_TRUE(prepare_cursor(*cursors_, name, value));
    ASSERT_TRUE(publish_cursor(*cursors_, name));
  }
  std::vector<std::string> names() {
    std::vector<std::string> names;
    const auto cursors = read_cursors(*cursors_);
    EXPECT_TRUE(cursors);
    for (const auto& found : *cursors) {
      names.push_back(found.name);
    }
    return names;
  }

  SimulatedDisk disk_{3};
  std::unique_ptr<io::Directory> log_ = *disk_.open_directory("log", true);
  std::unique_ptr<io::Directory> cursors_ = *make_cursors(*log_);
};

TEST_F(CursorFilesTest, NamesAreTold) {
  for (const auto* const name :
       {"a", "Z", "0", "-", "_", "a.b", "billing-2", "a.lock", "a.cursor"}) {
    EXPECT_TRUE(is_consumer_name(name)) << name;
  }
  for (const auto* const name :
       {"", ".", "..", ".a", "a/b", "a b", "\xc3\xa4", "a\\", "a:", "a~"}) {
    EXPECT_FALSE(is_consumer_name(name)) << name;
  }
  EXPECT_TRUE(is_consumer_name(std::string(kConsumerNameCharactersMax, 'a')));
  EXPECT_FALSE(is_consumer_name(std::string(kConsumerNameCharactersMax + 1, 'a')));
}

TEST_F(CursorFilesTest, AllAreFoundAndNothingElse) {
  write("b", 2);
  write("a", 1);
  write("a.lock", 3);
  write("a.cursor", 4);
  ASSERT_TRUE(prepare_cursor(*cursors_, "unfinished", {}));
  ASSERT_TRUE(cursors_->lock(cursor_lock_name("taken"), "somebody"));
  ASSERT_TRUE(disk_.write_file("log/cursors/.cursor", {}));
  EXPECT_EQ(names(), (std::vector<std::string>{"a", "a.cursor", "a.lock", "b"}));
  EXPECT_EQ((*read_cursor(*cursors_, "a.lock"))->position.sequence, 3U);
  EXPECT_FALSE(*read_cursor(*cursors_, "taken"));
}

TEST_F(CursorFilesTest, OneThatIsNoneIsFoundWithWhy) {
  write("a", 1);
  ASSERT_TRUE(disk_.write_file("log/cursors/b.cursor", {}));
  auto newer = *disk_.read_file("log/cursors/a.cursor");
  store_le(&newer[8], std::uint32_t{2});
  store_le(&newer[kCursorBytes - 4], crc32c(0, ByteView(newer).first(kCursorBytes - 4)));
  ASSERT_TRUE(disk_.write_file("log/cursors/c.cursor", newer));
  write("d", 1);
  disk_.inject({.operations = testing::Operation::open, .name_suffix = "d.cursor"});
  const auto cursors = read_cursors(*cursors_);
  ASSERT_TRUE(cursors);
  ASSERT_EQ(cursors->size(), 4U);
  EXPECT_TRUE((*cursors)[0].value);
  EXPECT_EQ((*cursors)[1].value.error().code, ErrorCode::damaged);
  EXPECT_EQ((*cursors)[2].value.error().code, ErrorCode::unsupported_version);
  EXPECT_EQ((*cursors)[3].value.error().code, ErrorCode::io);
}

TEST_F(CursorFilesTest, LookingMakesNothing) {
  const auto other = *disk_.open_directory("other", true);
  EXPECT_EQ(*find_cursors(*other), nullptr);
  EXPECT_TRUE(disk_.list_files("other")->empty());
}

// Goal: a value is the old or the new one, whatever a power cut leaves of a replacement.
TEST_F(CursorFilesTest, APowerCutLeavesAWholeValue) {
  write("a", 1);
  ASSERT_TRUE(log_->sync());
  ASSERT_TRUE(cursors_->sync());
  for (std::uint64_t seed = 0; seed < 64; ++seed) {
    const auto disk = disk_.clone();
    const auto log = *disk->open_directory("log", false);
    const auto cursors = *find_cursors(*log);
    CursorValue value;
    value.position.sequence = 2;
    ASSERT_TRUE(prepare_cursor(*cursors, "a", value));
    ASSERT_TRUE(publish_cursor(*cursors, "a"));
    disk->power_cut(seed);
    const auto after = *find_cursors(**disk->open_directory("log", false));
    const auto found = read_cursor(*after, "a");
    ASSERT_TRUE(found) << found.error().message;
    ASSERT_TRUE(*found) << seed;
    EXPECT_TRUE((*found)->position.sequence == 1 || (*found)->position.sequence == 2);
  }
}

TEST_F(CursorFilesTest, TheLockIsWaitedForSoLong) {
  auto first = lock_cursors(disk_, *log_, std::chrono::milliseconds{0});
  ASSERT_TRUE(first);
  const auto second = lock_cursors(disk_, *log_, std::chrono::milliseconds{3});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::locked);
  first->reset();
  EXPECT_TRUE(lock_cursors(disk_, *log_, std::chrono::milliseconds{0}));
}

}  // namespace
}  // namespace nori
