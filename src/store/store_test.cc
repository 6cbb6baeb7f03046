#include "nori/store.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "io/file_system.h"
#include "testing/recovered_log.h"
#include "testing/results.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using std::chrono::milliseconds;
using testing::code_of;
using testing::SimulatedDisk;
using testing::Survival;

using Pairs = std::vector<std::pair<std::string, std::string>>;

class StoreTest : public ::testing::Test {
 protected:
  StoreTest() {
    options_.wal = testing::small_options();
    options_.wal.file_system = &disk_;
    options_.wal.fsync = FsyncPolicy::os();
    options_.clock = [this] { return now_; };
    options_.open_threads = 2;
  }

  StoreRecovery open() {
    store_.reset();
    auto opened = Store::open(options_);
    if (!opened) {
      throw std::runtime_error(opened.error().message);
    }
    store_.emplace(std::move(opened->store));
    return opened->recovery;
  }
  StoreRecovery crash_and_open() {
    disk_.crash_process();
    return open();
  }
  StoreRecovery cut_power_and_open() {
    disk_.crash_process();
    store_.reset();
    disk_.power_cut(1, {.survival = Survival::nothing});
    return open();
  }

  Written put(std::string_view key, std::string_view value, const WriteOptions& options = {}) {
    auto written = store_->put(key, value, options);
    if (!written) {
      throw std::runtime_error(written.error().message);
    }
    return *written;
  }
  std::string get(std::string_view key) const {
    const auto found = store_->get(key);
    if (!found) {
      return "error: " + found.error().message;
    }
    return *found ? std::string((*found)->value()) : "(none)";
  }
  static Pairs pairs(Result<Scan> scan) {
    Pairs found;
    if (!scan) {
      throw std::runtime_error(scan.error().message);
    }
    while (const auto entry = scan->next()) {
      found.emplace_back(entry->key, entry->value);
    }
    return found;
  }
  Pairs scan(const ScanOptions& options = {}) const { return pairs(store_->scan(options)); }

  // A byte of the newest snapshot's entries goes bad.
  void damage_newest_snapshot() {
    const auto files = list_snapshots(options_.wal.directory, &disk_);
    ASSERT_TRUE(files && !files->empty());
    ASSERT_TRUE(disk_.flip_bit(options_.wal.directory.string() + "/snapshots/" + files->back().name,
                               files->back().bytes / 3, 1));
  }

  SimulatedDisk disk_{5};
  StoreOptions options_;
  TimePoint now_{std::chrono::hours{500'000}};
  std::optional<Store> store_;
};

// --- What is written is there

TEST_F(StoreTest, HasWhatWasPut) {
  open();
  put("b", "2");
  put("a", "1");
  put("", "empty key");
  put("empty value", "");
  EXPECT_EQ(get("a"), "1");
  EXPECT_EQ(get(""), "empty key");
  EXPECT_EQ(get("empty value"), "");
  EXPECT_EQ(get("c"), "(none)");
  put("a", "3");
  EXPECT_EQ(get("a"), "3");
  ASSERT_TRUE(store_->remove("b"));
  EXPECT_EQ(get("b"), "(none)");
  EXPECT_EQ(*store_->contains("a"), true);
  EXPECT_EQ(*store_->contains("b"), false);
  EXPECT_EQ(scan(), (Pairs{{"", "empty key"}, {"a", "3"}, {"empty value", ""}}));
  EXPECT_EQ(store_->stats().keys, 3U);
}

TEST_F(StoreTest, HasItAgainAfterACrash) {
  open();
  put("a", "1");
  put("b", "2");
  ASSERT_TRUE(store_->remove("a"));
  const auto before = scan();
  const auto recovery = crash_and_open();
  EXPECT_EQ(recovery.records_replayed, 3U);
  EXPECT_FALSE(recovery.snapshot);
  EXPECT_EQ(scan(), before);
  EXPECT_EQ(get("b"), "2");
}

TEST_F(StoreTest, ADurableWriteSurvivesAPowerCut) {
  open();
  put("lost", "1");
  put("kept", "2", {.durability = Durability::durable});
  put("lost too", "3");
  cut_power_and_open();
  EXPECT_EQ(scan(), (Pairs{{"kept", "2"}, {"lost", "1"}}));
}

TEST_F(StoreTest, SyncMakesDurableWhatWasWritten) {
  open();
  const auto written = put("a", "1");
  ASSERT_TRUE(store_->wait_durable(written.end));
  put("b", "2");
  ASSERT_TRUE(store_->sync());
  cut_power_and_open();
  EXPECT_EQ(scan(), (Pairs{{"a", "1"}, {"b", "2"}}));
}

TEST_F(StoreTest, WithAlwaysEveryWriteIsDurable) {
  options_.wal.fsync = FsyncPolicy::always();
  open();
  put("a", "1");
  Batch batch;
  batch.put("b", "2");
  batch.put("c", "3");
  ASSERT_TRUE(store_->write(batch));
  cut_power_and_open();
  EXPECT_EQ(scan(), (Pairs{{"a", "1"}, {"b", "2"}, {"c", "3"}}));
}

TEST_F(StoreTest, ABatchIsOne) {
  open();
  put("a", "old");
  put("gone", "old");
  Batch batch;
  batch.put("a", "1");
  batch.put("a", "2");
  batch.remove("gone");
  batch.put("back", "1");
  batch.remove("back");
  batch.put("new", "3");
  const auto written = store_->write(batch);
  ASSERT_TRUE(written) << written.error().message;
  EXPECT_EQ(scan(), (Pairs{{"a", "2"}, {"new", "3"}}));
  EXPECT_EQ((*store_->get("new"))->version(), written->version);
  EXPECT_EQ((*store_->get("a"))->version().sequence, written->version.sequence - 4);
  crash_and_open();
  EXPECT_EQ(scan(), (Pairs{{"a", "2"}, {"new", "3"}}));
  EXPECT_EQ(code_of(store_->write(Batch{})), "invalid_argument");
}

TEST_F(StoreTest, AValueStaysWhatItWas) {
  open();
  put("a", "1");
  const auto value = **store_->get("a");
  put("a", "2");
  ASSERT_TRUE(store_->remove("a"));
  const std::vector copies{value, value};
  ASSERT_TRUE(store_->close());
  store_.reset();
  EXPECT_EQ(copies.back().key(), "a");
  EXPECT_EQ(copies.back().value(), "1");
}

TEST_F(StoreTest, LargeKeysAndValues) {
  open();
  const std::string key(kMiB, 'k');
  const std::string value(3 * kMiB, 'v');
  put(key, value);
  put("small", "1");
  EXPECT_EQ(get(key), value);
  ASSERT_TRUE(store_->checkpoint());
  put(key + "2", value);
  crash_and_open();
  EXPECT_EQ(get(key), value);
  EXPECT_EQ(get(key + "2"), value);
}

// --- Versions

TEST_F(StoreTest, AVersionNamesARecordForEver) {
  open();
  const auto first = put("a", "1").version;
  const auto second = put("a", "1").version;
  EXPECT_NE(first, second);
  EXPECT_EQ((*store_->get("a"))->version(), second);
  crash_and_open();
  EXPECT_EQ((*store_->get("a"))->version(), second);
  ASSERT_TRUE(store_->checkpoint());
  crash_and_open();
  EXPECT_EQ((*store_->get("a"))->version(), second);
  const auto third = put("b", "1").version;
  EXPECT_NE(third.epoch, second.epoch);
  EXPECT_EQ((*store_->get("b"))->version(), third);
}

TEST_F(StoreTest, CompareAndSetWritesOnlyWhatIsExpected) {
  open();
  const auto made = store_->compare_and_set("a", std::nullopt, "1");
  ASSERT_TRUE(made && *made);
  EXPECT_FALSE(*store_->compare_and_set("a", std::nullopt, "2")) << "it is there";
  auto other = (*made)->version;
  ++other.sequence;
  EXPECT_FALSE(*store_->compare_and_set("a", other, "2"));
  EXPECT_EQ(get("a"), "1");
  const auto set = store_->compare_and_set("a", (*made)->version, "2");
  ASSERT_TRUE(set && *set);
  EXPECT_EQ(get("a"), "2");
  EXPECT_FALSE(*store_->compare_and_remove("a", (*made)->version)) << "of the one before";
  EXPECT_TRUE(*store_->compare_and_remove("a", (*set)->version));
  EXPECT_EQ(get("a"), "(none)");
  EXPECT_FALSE(*store_->compare_and_remove("a", (*set)->version));
  EXPECT_EQ(store_->log().current_position().sequence, 3U) << "what was refused is not in the log";
}

// --- Scans and views

TEST_F(StoreTest, ScansAPartOfTheKeys) {
  open();
  for (const auto* const key : {"a", "b/1", "b/2", "b/3", "b0", "c", "\xff\xff", "\xff\xff\x01"}) {
    put(key, "");
  }
  const auto keys = [&](const ScanOptions& options) {
    std::string all;
    for (const auto& [key, value] : scan(options)) {
      all += key + " ";
    }
    return all;
  };
  EXPECT_EQ(keys({.prefix = "b/"}), "b/1 b/2 b/3 ");
  EXPECT_EQ(keys({.prefix = "b/", .reverse = true}), "b/3 b/2 b/1 ");
  EXPECT_EQ(keys({.prefix = "b/", .limit = 2}), "b/1 b/2 ");
  EXPECT_EQ(keys({.prefix = "b/", .limit = 2, .reverse = true}), "b/3 b/2 ");
  EXPECT_EQ(keys({.prefix = "b/", .from = "b/2"}), "b/2 b/3 ");
  EXPECT_EQ(keys({.prefix = "b/", .to = "b/2"}), "b/1 ");
  EXPECT_EQ(keys({.prefix = "b/", .from = "a", .to = "c"}), "b/1 b/2 b/3 ");
  EXPECT_EQ(keys({.from = "b/3", .to = "c"}), "b/3 b0 ");
  EXPECT_EQ(keys({.from = "b/3", .to = "c", .reverse = true}), "b0 b/3 ");
  EXPECT_EQ(keys({.from = "b/15", .to = "b/2"}), "");
  EXPECT_EQ(keys({.from = "c", .to = "a"}), "");
  EXPECT_EQ(keys({.to = ""}), "");
  EXPECT_EQ(keys({.prefix = "\xff\xff"}), "\xff\xff \xff\xff\x01 ");
  EXPECT_EQ(keys({.prefix = "\xff\xff", .reverse = true}), "\xff\xff\x01 \xff\xff ");
  EXPECT_EQ(keys({.prefix = "d"}), "");
}

TEST_F(StoreTest, AViewIsWhatWasThere) {
  open();
  for (int i = 0; i < 500; ++i) {
    put(std::to_string(i), "old");
  }
  const auto view = store_->view();
  ASSERT_TRUE(view);
  auto half = view->scan();
  for (int i = 0; i < 250; ++i) {
    ASSERT_TRUE(half.next());
  }
  for (int i = 0; i < 500; i += 2) {
    ASSERT_TRUE(store_->remove(std::to_string(i)));
    put(std::to_string(i + 1), "new");
    put(std::to_string(1000 + i), "new");
  }
  EXPECT_EQ(view->sequence(), 500U);
  EXPECT_EQ(view->get("2")->value, "old");
  EXPECT_FALSE(view->get("1002"));
  const auto found = pairs(view->scan());
  EXPECT_EQ(found.size(), 500U);
  for (const auto& [key, value] : found) {
    EXPECT_EQ(value, "old");
  }
  int rest = 0;
  while (const auto entry = half.next()) {
    EXPECT_EQ(entry->value, "old");
    ++rest;
  }
  EXPECT_EQ(rest, 250);
  store_.reset();
  EXPECT_EQ(pairs(view->scan()).size(), 500U) << "and outlives the store";
}

TEST_F(StoreTest, ASubscriptionBeginsWhereAViewEnds) {
  open();
  put("a", "1");
  const auto view = *store_->view();
  put("b", "2");
  ASSERT_TRUE(store_->remove("a"));
  auto changes = store_->subscribe(view.sequence());
  ASSERT_TRUE(changes);
  auto entry = changes->next();
  ASSERT_TRUE(entry && *entry);
  EXPECT_EQ((*entry)->key, "b");
  entry = changes->next();
  EXPECT_EQ((*entry)->op, Operation::remove);
  EXPECT_FALSE(*changes->next());
  put("c", "3");
  EXPECT_EQ((*changes->next())->key, "c");
}

// --- Expiry

TEST_F(StoreTest, WhatHasExpiredIsNotThere) {
  open();
  put("a", "1", {.expires_at = now_ + milliseconds{10}});
  put("b", "2");
  EXPECT_EQ(get("a"), "1");
  EXPECT_EQ((*store_->get("a"))->expires_at(), now_ + milliseconds{10});
  const auto before = *store_->view();
  now_ += milliseconds{10};
  EXPECT_EQ(get("a"), "(none)");
  EXPECT_FALSE(*store_->contains("a"));
  EXPECT_EQ(scan(), (Pairs{{"b", "2"}}));
  EXPECT_TRUE(before.get("a")) << "it was there";
  EXPECT_TRUE(*store_->compare_and_set("a", std::nullopt, "again")) << "it counts as absent";
  EXPECT_EQ(get("a"), "again");
}

TEST_F(StoreTest, ExpiryIsKeptByLogAndSnapshot) {
  open();
  put("a", "1", {.expires_at = now_ + milliseconds{10}});
  put("b", "2", {.expires_at = now_ + milliseconds{20}});
  crash_and_open();
  EXPECT_EQ(scan().size(), 2U);
  ASSERT_TRUE(store_->checkpoint());
  crash_and_open();
  EXPECT_EQ(scan().size(), 2U);
  now_ += milliseconds{10};
  EXPECT_EQ(scan(), (Pairs{{"b", "2"}}));
}

// A clock that jumps hides, and when it jumps back shows again: nothing was deleted.
TEST_F(StoreTest, AClockThatJumpsDeletesNothing) {
  open();
  now_ = TimePoint{milliseconds{disk_.now_ms()}};
  put("a", "1", {.expires_at = now_ + std::chrono::hours{1000}});
  now_ += std::chrono::hours{2000};
  EXPECT_EQ(get("a"), "(none)");
  ASSERT_TRUE(store_->compact());
  crash_and_open();
  EXPECT_EQ(get("a"), "(none)");
  now_ -= std::chrono::hours{2000};
  EXPECT_EQ(get("a"), "1");
}

// Nor does the clock by which things are deleted, where that one is ahead of what reads see.
TEST_F(StoreTest, WhatIsStillThereIsNotForgotten) {
  now_ = TimePoint{milliseconds{disk_.now_ms()}} - std::chrono::hours{10};
  open();
  put("a", "1", {.expires_at = now_ + std::chrono::hours{1}});
  ASSERT_TRUE(store_->compact());
  EXPECT_EQ(get("a"), "1");
  crash_and_open();
  EXPECT_EQ(get("a"), "1");
  ASSERT_TRUE(store_->compact());
  EXPECT_EQ(get("a"), "1");
}

TEST_F(StoreTest, ACheckpointForgetsWhatHasExpired) {
  open();
  now_ = TimePoint{milliseconds{disk_.now_ms()}};
  put("a", "1", {.expires_at = now_ - milliseconds{1000}});
  put("b", "2");
  EXPECT_EQ(store_->stats().keys, 2U);
  const auto report = store_->checkpoint();
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->entries, 1U);
  EXPECT_EQ(store_->stats().keys, 1U);
}

// --- Checkpoints

TEST_F(StoreTest, OpensFromASnapshotAndWhatCameAfterIt) {
  open();
  for (int i = 0; i < 1000; ++i) {
    put(std::to_string(i), "old");
  }
  const auto report = store_->checkpoint();
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->sequence, 1000U);
  EXPECT_EQ(report->entries, 1000U);
  put("5", "new");
  put("zzz", "new");
  ASSERT_TRUE(store_->remove("7"));
  ASSERT_TRUE(store_->remove("not there"));
  const auto before = scan();
  const auto recovery = crash_and_open();
  EXPECT_EQ(recovery.snapshot, 1000U);
  EXPECT_EQ(recovery.snapshot_entries, 1000U);
  EXPECT_EQ(recovery.records_replayed, 4U);
  EXPECT_EQ(scan(), before);
  EXPECT_EQ(store_->stats().keys, 1000U);
}

TEST_F(StoreTest, ABadSnapshotFallsBackToTheOneBefore) {
  open();
  put("a", "1");
  ASSERT_TRUE(store_->checkpoint());
  put("a", "2");
  put("b", "2");
  ASSERT_TRUE(store_->checkpoint());
  put("c", "3");
  ASSERT_TRUE(store_->sync());
  disk_.crash_process();
  store_.reset();
  damage_newest_snapshot();
  const auto recovery = open();
  EXPECT_EQ(recovery.snapshot, 1U);
  ASSERT_EQ(recovery.skipped_snapshots.size(), 1U);
  EXPECT_EQ(recovery.skipped_snapshots[0].sequence, 3U);
  EXPECT_EQ(scan(), (Pairs{{"a", "2"}, {"b", "2"}, {"c", "3"}}));
}

TEST_F(StoreTest, ABadBlockFallsBackToTheSnapshotBefore) {
  options_.snapshots.block_bytes = kKiB;
  open();
  for (int i = 0; i < 300; ++i) {
    put(std::to_string(i), std::to_string(i * 7919));
  }
  ASSERT_TRUE(store_->checkpoint());
  put("5", "new");
  ASSERT_TRUE(store_->checkpoint());
  put("6", "newer");
  const auto before = scan();
  ASSERT_TRUE(store_->close());
  store_.reset();
  damage_newest_snapshot();
  ASSERT_TRUE(list_snapshots(options_.wal.directory, &disk_)->back().valid) << "but for a block";
  const auto recovery = open();
  EXPECT_EQ(recovery.snapshot, 300U);
  ASSERT_EQ(recovery.skipped_snapshots.size(), 1U);
  EXPECT_EQ(recovery.skipped_snapshots[0].sequence, 301U);
  EXPECT_EQ(scan(), before);
}

TEST_F(StoreTest, WithoutAGoodSnapshotTheLogIsReadFromItsBegin) {
  open();
  put("a", "1");
  ASSERT_TRUE(store_->checkpoint());
  ASSERT_TRUE(store_->remove("a"));
  put("b", "2");
  ASSERT_TRUE(store_->sync());
  disk_.crash_process();
  store_.reset();
  damage_newest_snapshot();
  const auto recovery = open();
  EXPECT_FALSE(recovery.snapshot);
  EXPECT_EQ(recovery.skipped_snapshots.size(), 1U);
  EXPECT_EQ(scan(), (Pairs{{"b", "2"}}));
}

TEST_F(StoreTest, CompactLeavesOneSnapshotAndWhatCameAfterIt) {
  open();
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 500; ++i) {
      put(std::to_string(i), std::string(200, static_cast<char>('a' + round)));
    }
    ASSERT_TRUE(store_->checkpoint());
  }
  const auto before = scan();
  const auto bytes_before = store_->stats().log.bytes_on_disk;
  const auto report = store_->compact();
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_FALSE(report->not_removed);
  EXPECT_GT(report->segments_deleted, 3U);
  EXPECT_EQ(list_snapshots(options_.wal.directory, &disk_)->size(), 1U);
  EXPECT_EQ(store_->log().stats().first_sequence, 1500U);
  EXPECT_LT(store_->stats().log.bytes_on_disk, bytes_before / 3);
  EXPECT_EQ(scan(), before);
  put("z", "after");
  const auto recovery = crash_and_open();
  EXPECT_EQ(recovery.records_replayed, 1U);
  EXPECT_EQ(scan().size(), before.size() + 1);
}

// The only snapshot is not replaced by one that was not read back yet.
TEST_F(StoreTest, CompactWithoutNewsKeepsTheSnapshotThereIs) {
  open();
  put("a", std::string(100, 'v'));
  ASSERT_TRUE(store_->compact());
  const auto before =
      disk_.read_file("log/snapshots/" + list_snapshots("log", &disk_)->back().name).value();
  disk_.advance_ms(1000);
  const auto operations = disk_.operations();
  const auto again = store_->compact();
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->entries, 1U);
  EXPECT_EQ(disk_.operations(), operations);
  EXPECT_TRUE(
      disk_.read_file("log/snapshots/" + list_snapshots("log", &disk_)->back().name).value() ==
      before);
  crash_and_open();
  EXPECT_EQ(get("a"), std::string(100, 'v'));
}

// A partial map would be worse than none.
TEST_F(StoreTest, ALogThatBeginsBehindItsSnapshotIsDamaged) {
  open();
  for (int i = 0; i < 500; ++i) {
    put(std::to_string(i), std::string(200, 'a'));
  }
  ASSERT_TRUE(store_->compact());
  put("z", "after");
  ASSERT_TRUE(store_->close());
  store_.reset();
  damage_newest_snapshot();
  const auto opened = Store::open(options_);
  ASSERT_EQ(code_of(opened), "damaged");
  EXPECT_NE(opened.error().message.find("begins at record 500"), std::string::npos)
      << opened.error().message;
}

TEST_F(StoreTest, ALogThatWasCutWithoutASnapshotIsDamaged) {
  auto opened = Wal::open(options_.wal);
  ASSERT_TRUE(opened);
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(opened->wal.append(Record::put(std::to_string(i), std::string(200, 'v'))));
  }
  ASSERT_NE(*opened->wal.delete_segments_before(opened->wal.current_position()), 0U);
  ASSERT_TRUE(opened->wal.close());
  EXPECT_EQ(code_of(Store::open(options_)), "damaged");
}

// The log's own deletion, by whoever: the store's cursor and snapshots hold it back.
TEST_F(StoreTest, TheLogKeepsWhatTheStoreNeeds) {
  open();
  for (int i = 0; i < 1000; ++i) {
    put(std::to_string(i), std::string(200, 'v'));
  }
  const auto before = scan();
  ASSERT_TRUE(store_->close());
  store_.reset();
  {
    auto opened = Wal::open(options_.wal);
    ASSERT_TRUE(opened);
    EXPECT_EQ(*opened->wal.delete_segments_before(opened->wal.current_position()), 0U);
    ASSERT_TRUE(opened->wal.close());
  }
  open();
  EXPECT_EQ(scan(), before);
}

TEST_F(StoreTest, CheckpointsComeByThemselves) {
  options_.wal.background_thread = true;
  options_.checkpoints.log_bytes_min = 100'000;
  open();
  for (int i = 0; i < 5000; ++i) {
    put(std::to_string(i % 100), std::string(200, 'v'));
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
  put("more", "");
  while (store_->stats().checkpoints < 2) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    put("more", std::string(2000, 'v'));
    std::this_thread::sleep_for(milliseconds{1});
  }
  EXPECT_GT(store_->log().stats().first_sequence, 0U) << "and segments go";
  put("5", "new");
  crash_and_open();
  EXPECT_EQ(get("5"), "new");
  EXPECT_EQ(scan().size(), 101U);
}

// --- Limits, modes and errors

TEST_F(StoreTest, BeyondItsMemoryAPutIsRefusedAndNothingIsLost) {
  options_.memory_bytes_max = 100'000;
  open();
  int written = 0;
  for (;; ++written) {
    const auto put = store_->put(std::to_string(written), std::string(1000, 'v'));
    if (!put) {
      EXPECT_EQ(put.error().code, ErrorCode::too_large);
      break;
    }
  }
  EXPECT_GT(written, 80);
  EXPECT_LE(store_->stats().memory_bytes, 100'000U);
  Batch batch;
  batch.put("x", std::string(50'000, 'v'));
  EXPECT_EQ(code_of(store_->write(batch)), "too_large");
  EXPECT_EQ(get("0"), std::string(1000, 'v'));
  put("0", "smaller");
  ASSERT_TRUE(store_->remove("1"));
  put("new", std::string(1000, 'v'));
  const auto before = scan();
  crash_and_open();
  EXPECT_EQ(scan(), before);
}

TEST_F(StoreTest, AtItsMemoryLimitABatchMayOverwrite) {
  open();
  Batch batch;
  for (int i = 0; i < 50; ++i) {
    batch.put(std::to_string(i), std::string(1000, 'v'));
  }
  ASSERT_TRUE(store_->write(batch));
  const auto memory = store_->stats().memory_bytes;
  ASSERT_TRUE(store_->close());
  options_.memory_bytes_max = memory;
  open();
  EXPECT_TRUE(store_->write(batch));
  batch.put("one more", "");
  EXPECT_EQ(code_of(store_->write(batch)), "too_large");
}

TEST_F(StoreTest, AFullDiskTakesNothing) {
  open();
  put("a", "1");
  ASSERT_TRUE(store_->sync());
  disk_.set_capacity_bytes(1);
  std::string_view refused = "ok";
  int written = 0;
  for (; refused == "ok" && written < 10'000; ++written) {
    refused = code_of(store_->put("k" + std::to_string(written), std::string(1000, 'v')));
  }
  EXPECT_EQ(refused, "no_space");
  EXPECT_EQ(get("k" + std::to_string(written - 1)), "(none)");
  EXPECT_EQ(get("a"), "1");
  EXPECT_EQ(code_of(store_->checkpoint()), "no_space");
  disk_.set_capacity_bytes(SimulatedDisk::kUnlimited);
  put("b", "2");
  ASSERT_TRUE(store_->checkpoint());
  const auto before = scan();
  crash_and_open();
  EXPECT_EQ(scan(), before);
}

TEST_F(StoreTest, AFailedSyncEndsWritingNotReading) {
  open();
  put("a", "1");
  disk_.fail_nth({testing::Operation::sync, testing::Operation::durable_write}, 0, EIO);
  EXPECT_EQ(code_of(store_->put("b", "2", {.durability = Durability::durable})), "io");
  EXPECT_EQ(code_of(store_->put("c", "3")), "io");
  EXPECT_EQ(code_of(store_->checkpoint()), "io");
  EXPECT_EQ(get("a"), "1");
  EXPECT_EQ(get("b"), "2") << "it is in the log";
  EXPECT_EQ(get("c"), "(none)");
}

TEST_F(StoreTest, RefusesARetention) {
  options_.wal.retention.max_bytes = 1;
  EXPECT_EQ(code_of(Store::open(options_)), "invalid_argument");
}

TEST_F(StoreTest, ReadOnlyShowsWhatWasThereBesideAWriter) {
  open();
  put("a", "1");
  ASSERT_TRUE(store_->checkpoint());
  put("b", "2");
  auto options = options_;
  options.wal.mode = OpenMode::read_only;
  auto opened = Store::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  put("c", "3");
  EXPECT_EQ(pairs(opened->store.scan()), (Pairs{{"a", "1"}, {"b", "2"}}));
  EXPECT_EQ(code_of(opened->store.put("x", "")), "invalid_argument");
  EXPECT_EQ(code_of(opened->store.checkpoint()), "invalid_argument");
  EXPECT_EQ(code_of(opened->store.compact()), "invalid_argument");
}

TEST_F(StoreTest, ASecondWriterIsRefused) {
  open();
  EXPECT_EQ(code_of(Store::open(options_)), "locked");
}

TEST_F(StoreTest, AfterCloseEveryCallSaysSo) {
  open();
  put("a", "1");
  ASSERT_TRUE(store_->close());
  EXPECT_EQ(code_of(store_->put("a", "2")), "closed");
  EXPECT_EQ(code_of(store_->remove("a")), "closed");
  EXPECT_EQ(code_of(store_->write(Batch{})), "closed");
  EXPECT_EQ(code_of(store_->get("a")), "closed");
  EXPECT_EQ(code_of(store_->contains("a")), "closed");
  EXPECT_EQ(code_of(store_->view()), "closed");
  EXPECT_EQ(code_of(store_->scan()), "closed");
  EXPECT_EQ(code_of(store_->subscribe(0)), "closed");
  EXPECT_EQ(code_of(store_->consumer("c")), "closed");
  EXPECT_EQ(code_of(store_->sync()), "closed");
  EXPECT_EQ(code_of(store_->checkpoint()), "closed");
  EXPECT_EQ(code_of(store_->compact()), "closed");
  EXPECT_EQ(code_of(store_->close()), "closed");
  EXPECT_NE(code_of(store_->sync()), "ok");
}

// --- The log below

TEST_F(StoreTest, ALogIsAStore) {
  {
    auto opened = Wal::open(options_.wal);
    ASSERT_TRUE(opened);
    ASSERT_TRUE(opened->wal.append(Record::put("a", "1")));
    ASSERT_TRUE(opened->wal.append(Record::put("b", "2")));
    ASSERT_TRUE(opened->wal.append(Record::remove("a")));
    ASSERT_TRUE(opened->wal.close());
  }
  open();
  EXPECT_EQ(scan(), (Pairs{{"b", "2"}}));
}

TEST_F(StoreTest, IsTheSameAfterItsLogWasCompacted) {
  open();
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 300; ++i) {
      put(std::to_string(i), std::string(100, static_cast<char>('a' + round)));
      if (i % 7 == round) {
        ASSERT_TRUE(store_->remove(std::to_string(i)));
      }
    }
    if (round == 1) {
      ASSERT_TRUE(store_->checkpoint());
    }
  }
  const auto before = scan();
  ASSERT_TRUE(store_->close());
  store_.reset();
  {
    auto opened = Wal::open(options_.wal);
    ASSERT_TRUE(opened);
    const auto report = opened->wal.compact();
    ASSERT_TRUE(report) << report.error().message;
    EXPECT_LT(report->records_after, report->records_before);
    ASSERT_TRUE(opened->wal.close());
  }
  open();
  EXPECT_EQ(scan(), before);
}

// --- Processes and threads

// Goal: in the child of a fork no call waits for a thread that is not there.
TEST(StoreForkTest, TheChildsStoreIsUnusableAndTheParentsGoesOn) {
  static_cast<void>(io::posix_file_system());  // counts forks from now on
  SimulatedDisk disk(3);
  StoreOptions options{.wal = testing::small_options()};
  options.wal.file_system = &disk;
  auto opened = Store::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  auto& store = opened->store;
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (int i = 0; !done; ++i) {
      (void)store.put(std::to_string(i % 100), "value");
    }
  });
  for (int i = 0; i < 50; ++i) {
    const auto child = ::fork();
    if (child == 0) {
      ::alarm(10);
      // Which of them did not, as a bit.
      int answered = 0;
      int bit = 1;
      const auto expect_closed = [&](bool refused) {
        answered |= refused ? 0 : bit;
        bit *= 2;
      };
      expect_closed(code_of(store.put("a", "1")) == "closed");
      expect_closed(code_of(store.get("a")) == "closed");
      expect_closed(code_of(store.view()) == "closed");
      expect_closed(code_of(store.checkpoint()) == "closed");
      expect_closed(code_of(store.compact()) == "closed");
      expect_closed(code_of(store.close()) == "closed");
      expect_closed(store.stats().keys == 0);
      ::_exit(answered);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  done = true;
  writer.join();
  EXPECT_TRUE(store.close());
}

// Record i puts key i, so the newest record that a view claims says what must be in it.
TEST(StoreThreadsTest, AViewHoldsTheRecordsItClaims) {
  SimulatedDisk disk(3);
  StoreOptions options{.wal = testing::small_options()};
  options.wal.file_system = &disk;
  options.wal.background_thread = true;
  auto opened = Store::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  auto& store = opened->store;
  constexpr std::uint64_t kWrites = 20'000;
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (std::uint64_t i = 0; i < kWrites; ++i) {
      EXPECT_TRUE(store.put(std::to_string(i), ""));
    }
    done = true;
  });
  std::uint64_t missing = 0;
  while (!done) {
    const auto view = *store.view();
    const auto claimed = view.sequence();
    missing += claimed != 0 && !view.get(std::to_string(claimed - 1)) ? 1 : 0;
  }
  writer.join();
  EXPECT_EQ(missing, 0U);
}

TEST(StoreThreadsTest, WritersReadersScansAndCheckpointsTogether) {
  SimulatedDisk disk(3);
  StoreOptions options{.wal = testing::small_options()};
  options.wal.file_system = &disk;
  options.wal.background_thread = true;
  options.checkpoints.log_bytes_min = 50'000;
  auto opened = Store::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  auto& store = opened->store;
  constexpr int kWrites = 1500;
  std::vector<std::thread> threads;
  std::vector<int> counted(3);
  for (int thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kWrites; ++i) {
        const auto own = std::to_string(thread) + "/" + std::to_string(i % 50);
        if (i % 5 == 4) {
          Batch batch;
          batch.put(own, std::to_string(i));
          batch.put("pair/a", own + "=" + std::to_string(i));
          batch.put("pair/b", own + "=" + std::to_string(i));
          EXPECT_TRUE(store.write(batch));
        } else if (i % 5 == 3) {
          EXPECT_TRUE(store.remove(own));
        } else {
          EXPECT_TRUE(store.put(own, std::to_string(i)));
        }
        // A counter that all of them raise.
        for (;;) {
          const auto found = store.get("counter");
          const auto value = *found ? std::stoi(std::string((*found)->value())) : 0;
          const auto version = *found ? std::optional((*found)->version()) : std::nullopt;
          const auto set = store.compare_and_set("counter", version, std::to_string(value + 1));
          if (*set) {
            break;
          }
        }
        ++counted[static_cast<std::size_t>(thread)];
      }
    });
  }
  threads.emplace_back([&] {
    for (int i = 0; i < 60; ++i) {
      const auto view = store.view();
      const auto a = view->get("pair/a");
      const auto b = view->get("pair/b");
      EXPECT_EQ(a ? a->value : "", b ? b->value : "") << "a part of a batch was seen";
      auto scan = view->scan();
      std::uint64_t entries = 0;
      while (scan.next()) {
        ++entries;
      }
      auto again = view->scan({.reverse = true});
      while (again.next()) {
        --entries;
      }
      EXPECT_EQ(entries, 0U);
    }
  });
  threads.emplace_back([&] {
    for (int i = 0; i < 5; ++i) {
      const auto done = i % 2 == 0 ? store.checkpoint() : store.compact();
      EXPECT_TRUE(done) << done.error().message;
    }
  });
  for (auto& thread : threads) {
    thread.join();
  }
  EXPECT_EQ((*store.get("counter"))->value(), std::to_string(3 * kWrites));
  std::map<std::string, std::string> before;
  auto scan = *store.scan();
  while (const auto entry = scan.next()) {
    before.emplace(entry->key, entry->value);
  }
  ASSERT_TRUE(store.close());
  const auto again = Store::open(options);
  ASSERT_TRUE(again) << again.error().message;
  std::map<std::string, std::string> after;
  scan = *again->store.scan();
  while (const auto entry = scan.next()) {
    after.emplace(entry->key, entry->value);
  }
  EXPECT_EQ(after, before);
}

}  // namespace
}  // namespace nori
