#include "nori/read_key.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using testing::SimulatedDisk;

class ReadKeyTest : public ::testing::Test {
 protected:
  ReadKeyTest() {
    options_.wal = testing::small_options();
    options_.wal.file_system = &disk_;
    options_.wal.fsync = FsyncPolicy::os();
    options_.clock = [this] { return now_; };
    options_.snapshots.block_bytes = kKiB;
    options_.open_threads = 2;
    open();
  }
  void open() {
    store_.reset();
    auto opened = Store::open(options_);
    ASSERT_TRUE(opened) << opened.error().message;
    store_.emplace(std::move(opened->store));
  }
  void put(std::string_view key, std::string_view value, const WriteOptions& options = {}) {
    ASSERT_TRUE(store_->put(key, value, options));
  }
  void close() {
    ASSERT_TRUE(store_->close());
    store_.reset();
  }
  [[nodiscard]] Result<std::optional<KeyRead>> read(std::string_view key) {
    return read_key(options_.wal.directory, key, {.clock = options_.clock, .file_system = &disk_});
  }
  // Its value, "(none)", or the error's name.
  std::string value_of(std::string_view key) {
    const auto found = read(key);
    return !found   ? std::string(error_code_name(found.error().code))
           : *found ? (*found)->value
                    : "(none)";
  }
  // A byte of the newest snapshot goes bad, at this share of its file.
  void damage_newest_snapshot(double share) {
    const auto files = list_snapshots(options_.wal.directory, &disk_);
    ASSERT_TRUE(files && !files->empty());
    const auto offset =
        static_cast<std::uint64_t>(static_cast<double>(files->back().bytes) * share);
    ASSERT_TRUE(disk_.flip_bit(options_.wal.directory.string() + "/snapshots/" + files->back().name,
                               offset, 1));
  }

  SimulatedDisk disk_{5};
  StoreOptions options_;
  TimePoint now_{std::chrono::hours{500'000}};
  std::optional<Store> store_;
};

// Goal: the same answer as the store's, whatever of snapshot and log it comes from.
// Method: rounds of puts, removals and checkpoints, each key asked of both after each round.
TEST_F(ReadKeyTest, AnswersWhatTheStoreWould) {
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < 60; ++i) {
      const auto key = "key-" + std::to_string((i * 7 + round * 13) % 90);
      if ((i + round) % 4 == 0) {
        ASSERT_TRUE(store_->remove(key));
      } else if ((i + round) % 4 == 1) {
        put(key, std::to_string(i), {.expires_at = now_ + std::chrono::hours{(i % 3) * 3}});
      } else {
        put(key, std::to_string(round) + std::string(40, 'v'));
      }
    }
    for (int i = 0; i < 100; ++i) {
      const auto key = "key-" + std::to_string(i);
      const auto found = read(key);
      const auto expected = store_->get(key);
      ASSERT_TRUE(found && expected) << found.error().message;
      ASSERT_EQ(found->has_value(), expected->has_value()) << key << " in round " << round;
      if (*found) {
        EXPECT_EQ((*found)->value, (*expected)->value());
        EXPECT_EQ((*found)->version, (*expected)->version());
        EXPECT_EQ((*found)->expires_at, (*expected)->expires_at());
      }
    }
    now_ += std::chrono::hours{2};
    if (round % 2 == 0) {
      ASSERT_TRUE(store_->checkpoint());
    } else if (round == 3) {
      ASSERT_TRUE(store_->compact());
    }
  }
}

TEST_F(ReadKeyTest, EmptyKeysAndValuesAreNoOthers) {
  put("", "of the empty key");
  put("empty", "");
  ASSERT_TRUE(store_->checkpoint());
  EXPECT_EQ(value_of(""), "of the empty key");
  EXPECT_EQ(value_of("empty"), "");
  EXPECT_EQ(value_of("e"), "(none)");
}

// Goal: it reads no more of a snapshot than it needs.
// Method: a block is bad and there is nothing to fall back to: keys of other blocks are answered.
TEST_F(ReadKeyTest, OneBlockOfTheSnapshotIsRead) {
  for (int i = 100; i < 400; ++i) {
    put(std::to_string(i), std::string(100, 'v'));
  }
  ASSERT_TRUE(store_->compact());
  close();
  damage_newest_snapshot(0.5);
  int damaged = 0;
  for (int i = 100; i < 400; ++i) {
    const auto value = value_of(std::to_string(i));
    damaged += value == "damaged" ? 1 : 0;
    EXPECT_TRUE(value == "damaged" || value == std::string(100, 'v')) << value;
  }
  EXPECT_GT(damaged, 0);
  EXPECT_LT(damaged, 150);
}

// Goal: a block that is bad is not answered from, and its snapshot is left for the one before.
// Method: as above, with the log there; every key has its newest value.
TEST_F(ReadKeyTest, ABadBlockFallsBackToTheSnapshotBefore) {
  for (int i = 100; i < 400; ++i) {
    put(std::to_string(i), std::string(100, 'a'));
  }
  ASSERT_TRUE(store_->checkpoint());
  for (int i = 100; i < 400; ++i) {
    put(std::to_string(i), std::to_string(i) + std::string(100, 'b'));
  }
  ASSERT_TRUE(store_->checkpoint());
  put("after", "the snapshot");
  close();
  damage_newest_snapshot(0.5);
  EXPECT_TRUE(list_snapshots(options_.wal.directory, &disk_)->back().valid) << "but for a block";
  for (int i = 100; i < 400; ++i) {
    ASSERT_EQ(value_of(std::to_string(i)), std::to_string(i) + std::string(100, 'b'));
  }
  EXPECT_EQ(value_of("after"), "the snapshot");
}

// No answer would be better than one from a part of the store.
TEST_F(ReadKeyTest, ALogThatBeginsBehindItsSnapshotIsDamaged) {
  for (int i = 0; i < 500; ++i) {
    put(std::to_string(i), std::string(200, 'v'));
  }
  ASSERT_TRUE(store_->compact());
  put("after", "the snapshot");
  close();
  damage_newest_snapshot(0);
  const auto found = read("after");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::damaged);
  EXPECT_TRUE(found.error().message.contains("begins at record 500")) << found.error().message;
}

TEST_F(ReadKeyTest, WithoutALogThereIsNone) {
  const auto found = read_key("elsewhere", "key", {.file_system = &disk_});
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::not_a_log);
}

// Goal: beside a writer that takes the log away under it, the key is found all the same.
// Method: a writer compacts again and again; a reader asks for what is always there.
TEST(ReadKeyThreadsTest, FindsAKeyWhileTheLogIsCompacted) {
  SimulatedDisk disk(7);
  StoreOptions options;
  options.wal = testing::small_options();
  options.wal.file_system = &disk;
  options.wal.fsync = FsyncPolicy::os();
  auto opened = Store::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  ASSERT_TRUE(opened->store.put("always", "there"));
  std::atomic<bool> done = false;
  std::jthread writer([&] {
    for (int round = 0; round < 20; ++round) {
      for (int i = 0; i < 300; ++i) {
        EXPECT_TRUE(opened->store.put(std::to_string(i), std::string(200, 'v')));
      }
      const auto report = opened->store.compact();
      EXPECT_TRUE(report) << report.error().message;
    }
    done = true;
  });
  int asked = 0;
  while (!done || asked == 0) {
    const auto found =
        read_key(options.wal.directory, "always", {.clock = {}, .file_system = &disk});
    ASSERT_TRUE(found) << found.error().message;
    ASSERT_TRUE(*found);
    EXPECT_EQ((*found)->value, "there");
    ++asked;
  }
}

}  // namespace
}  // namespace nori
