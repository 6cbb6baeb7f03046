// What a listener is told, and what stats() counts, on a simulated disk.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nori/events.h"
#include "nori/verify.h"
#include "nori/wal.h"
#include "testing/event_recorder.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using std::chrono::milliseconds;
using testing::SimulatedDisk;
using testing::Survival;
using On = testing::Operation;

constexpr milliseconds kDelay{5};

class Recorder : public testing::EventRecorder {
 public:
  void on_event(const Event& event) override {
    EXPECT_FALSE(within_) << "told within another event";
    within_ = true;
    EventRecorder::on_event(event);
    if (then) {
      then(event);
    }
    within_ = false;
  }

  std::function<void(const Event&)> then;

 private:
  bool within_ = false;
};

class WatchingTest : public ::testing::Test {
 public:
  ~WatchingTest() override { wal_.reset(); }

 protected:
  static constexpr std::uint64_t kCapacityBytes = 4 * kGiB;

  WatchingTest() {
    options_ = testing::small_options();
    options_.directory = "log";
    options_.fsync = FsyncPolicy::os();
    options_.file_system = &disk_;
    options_.listener = seen_;
    disk_.set_capacity_bytes(kCapacityBytes);
  }

  Wal& open() {
    wal_.reset();
    auto opened = Wal::open(options_);
    EXPECT_TRUE(opened) << opened.error().message;
    recovery_ = opened->recovery;
    return wal_.emplace(std::move(opened->wal));
  }
  // Whoever was killed tells nothing.
  void kill() {
    disk_.crash_process();
    wal_.reset();
    seen_->events.clear();
  }
  void append(int records, std::size_t value_bytes = 10) {
    for (int i = 0; i < records; ++i) {
      const auto appended = wal_->append(Record::put("key", std::string(value_bytes, 'v')));
      ASSERT_TRUE(appended) << appended.error().message;
    }
  }
  void append_until_full(std::size_t value_bytes) {
    for (int i = 0; i < 10'000; ++i) {
      if (!wal_->append(Record::put("key", std::string(value_bytes, 'v')))) {
        return;
      }
    }
    FAIL() << "the disk is never full";
  }
  void leave_free(std::uint64_t bytes) {
    disk_.set_capacity_bytes(kCapacityBytes);
    disk_.set_capacity_bytes(kCapacityBytes - disk_.free_bytes() + bytes);
  }
  template <typename T>
  [[nodiscard]] std::size_t times() const {
    return seen_->all<T>().size();
  }

  SimulatedDisk disk_{1};
  WalOptions options_;
  std::shared_ptr<Recorder> seen_ = std::make_shared<Recorder>();
  std::optional<Wal> wal_;
  RecoveryInfo recovery_;
};

// --- events --------------------------------------------------------------------------------------

TEST_F(WatchingTest, AnUneventfulLifeTellsNothing) {
  open();
  append(3);
  ASSERT_TRUE(wal_->sync());
  open();
  append(3);
  kill();
  open();
  ASSERT_TRUE(wal_->close());
  EXPECT_EQ(seen_->text(), "");
}

TEST_F(WatchingTest, EveryRotationIsToldOnce) {
  open();
  append(3);
  ASSERT_TRUE(wal_->rotate());
  const auto rotated = seen_->all<SegmentRotated>();
  ASSERT_EQ(rotated.size(), 1U);
  EXPECT_EQ(rotated[0].sealed_segment_id, 0U);
  EXPECT_EQ(rotated[0].segment_id, 1U);
  EXPECT_EQ(rotated[0].first_sequence, 3U);
  append(300, 1000);
  ASSERT_TRUE(wal_->sync());
  const auto segments = wal_->stats().segments;
  EXPECT_GT(segments, 4U);
  const auto all = seen_->all<SegmentRotated>();
  ASSERT_EQ(all.size(), segments - 1);
  for (std::uint64_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].segment_id, i + 1);
    EXPECT_EQ(all[i].sealed_segment_id, i);
  }
}

TEST_F(WatchingTest, ATailIsToldWhenItIsCut) {
  open();
  append(3);
  ASSERT_TRUE(wal_->sync());
  append(40, 1000);
  int torn = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    auto disk = disk_.clone();
    disk->power_cut(seed, {.survival = Survival::random, .torn_sectors = true});
    const auto seen = std::make_shared<Recorder>();
    auto options = options_;
    options.file_system = disk.get();
    options.listener = seen;
    options.mode = OpenMode::read_only;
    EXPECT_TRUE(Wal::open(options));
    EXPECT_EQ(seen->text(), "") << "nothing was cut yet";
    options.mode = OpenMode::create;
    const auto opened = Wal::open(options);
    ASSERT_TRUE(opened) << opened.error().message;
    const auto& recovery = opened->recovery;
    const auto cut = seen->all<TailCut>();
    ASSERT_EQ(cut.size(), recovery.torn_tail ? 1U : 0U);
    if (recovery.torn_tail) {
      ++torn;
      EXPECT_EQ(cut[0].bytes, recovery.bytes_truncated);
      EXPECT_EQ(cut[0].at.offset, recovery.truncated_at->offset);
      EXPECT_EQ(cut[0].reason, recovery.reason);
    }
    std::vector<std::string> kept;
    for (const auto& file : seen->all<FileQuarantined>()) {
      kept.push_back(file.file);
    }
    EXPECT_EQ(kept, recovery.quarantined);
    EXPECT_EQ(seen->events.size(), cut.size() + kept.size()) << seen->text();
  }
  EXPECT_GT(torn, 0);
}

TEST_F(WatchingTest, ASlowSyncIsToldAndCounted) {
  options_.slow_sync = milliseconds(1);
  open();
  append(1);
  seen_->events.clear();
  const auto before = wal_->stats().slow_syncs;
  disk_.set_latency([](On operation) {
    return operation == On::sync || operation == On::durable_write ? kDelay : milliseconds(0);
  });
  ASSERT_TRUE(wal_->sync());
  const auto slow = seen_->all<SlowSync>();
  ASSERT_EQ(slow.size(), 1U) << seen_->text();
  EXPECT_EQ(slow[0].file, "000000.wal");
  EXPECT_GE(slow[0].time_taken, kDelay);
  EXPECT_LT(slow[0].time_taken, std::chrono::seconds(30));
  EXPECT_EQ(wal_->stats().slow_syncs, before + 1);
}

TEST_F(WatchingTest, AFailureIsToldOnce) {
  open();
  append(3);
  disk_.fail_nth(On::write, 0, EIO);
  EXPECT_FALSE(wal_->sync());
  const auto failed = seen_->all<LogFailed>();
  ASSERT_EQ(failed.size(), 1U);
  EXPECT_EQ(failed[0].error.system_errno, EIO);
  EXPECT_EQ(failed[0].error.message, wal_->stats().failure->message);
  EXPECT_FALSE(wal_->sync());
  EXPECT_FALSE(wal_->append(Record::put("key", "")));
  EXPECT_FALSE(wal_->close());
  EXPECT_EQ(times<LogFailed>(), 1U);
}

TEST_F(WatchingTest, AFailureToBeginIsToldOnce) {
  open();
  disk_.fail_nth(On::sync, 0, EIO);
  EXPECT_FALSE(wal_->append(Record::put("key", "")));
  EXPECT_FALSE(wal_->append(Record::put("key", "")));
  EXPECT_EQ(times<LogFailed>(), 1U) << seen_->text();
}

TEST_F(WatchingTest, AFullDiskIsToldWhenItBeginsAndEnds) {
  options_.segment_bytes = 4 * kMiB;
  open();
  append(1);
  leave_free(0);
  append_until_full(1000);
  append_until_full(1000);
  ASSERT_EQ(seen_->events.size(), 1U) << seen_->text();
  EXPECT_EQ(seen_->all<SpaceExhausted>().at(0).error.code, ErrorCode::no_space);
  leave_free(kMiB);
  append(3, 1000);
  EXPECT_EQ(times<SpaceAvailable>(), 1U);
  leave_free(0);
  append_until_full(1000);
  EXPECT_EQ(times<SpaceExhausted>(), 2U);
  EXPECT_EQ(times<SpaceAvailable>(), 1U);
}

TEST_F(WatchingTest, WithoutARingLikewise) {
  options_.segment_bytes = 4 * kMiB;
  options_.ring_bytes = WalOptions::kNoRing;
  open();
  append(1);
  for (int i = 0; i < 2; ++i) {
    disk_.fail_nth(On::write, 0, ENOSPC);
    EXPECT_FALSE(wal_->append(Record::put("key", "")));
  }
  EXPECT_EQ(times<SpaceExhausted>(), 1U);
  EXPECT_EQ(times<SpaceAvailable>(), 0U);
  append(1);
  EXPECT_EQ(times<SpaceAvailable>(), 1U);
}

// The ring cannot be written out, and there is no room for more: both have to end.
TEST_F(WatchingTest, SpaceIsAvailableWhenNobodyLacksAny) {
  options_.segment_bytes = 4 * kMiB;
  open();
  append(3);
  disk_.writes_may_hit_no_space(true);
  EXPECT_FALSE(wal_->sync());
  leave_free(0);
  EXPECT_FALSE(wal_->rotate());
  EXPECT_EQ(times<SpaceExhausted>(), 1U);
  disk_.writes_may_hit_no_space(false);
  EXPECT_TRUE(wal_->sync());
  EXPECT_EQ(times<SpaceAvailable>(), 0U) << "a segment still finds no room";
  leave_free(kMiB);
  EXPECT_TRUE(wal_->rotate());
  EXPECT_EQ(times<SpaceAvailable>(), 1U);
  EXPECT_EQ(times<SpaceExhausted>(), 1U);

  append(3);
  disk_.writes_may_hit_no_space(true);
  EXPECT_FALSE(wal_->sync());
  leave_free(0);
  EXPECT_FALSE(wal_->rotate());
  leave_free(kMiB);
  EXPECT_FALSE(wal_->rotate());
  EXPECT_EQ(times<SpaceAvailable>(), 1U) << "the ring still cannot be written out";
  disk_.writes_may_hit_no_space(false);
  EXPECT_TRUE(wal_->sync());
  EXPECT_EQ(times<SpaceAvailable>(), 2U);
}

TEST_F(WatchingTest, AnOpeningWithoutSpaceIsTold) {
  open();
  append(10, 1000);
  kill();
  disk_.writes_may_hit_no_space(true);
  leave_free(0);
  open();
  EXPECT_EQ(times<SpaceExhausted>(), 1U);
  EXPECT_FALSE(wal_->append(Record::put("key", "")));
  EXPECT_EQ(times<SpaceExhausted>(), 1U);
  disk_.writes_may_hit_no_space(false);
  leave_free(kMiB);
  append(1);
  EXPECT_EQ(times<SpaceAvailable>(), 1U);
  EXPECT_EQ(seen_->events.size(), 2U) << seen_->text();
}

TEST_F(WatchingTest, DamageIsToldByWhoFindsIt) {
  open();
  append(3);
  ASSERT_TRUE(wal_->sync());
  append(1);
  wal_.reset();
  ASSERT_TRUE(disk_.flip_bit("log/000000.wal", 8192 + 20, 0));

  options_.verification = Verification::all;
  EXPECT_FALSE(Wal::open(options_));
  auto found = seen_->all<DamageFound>();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].by, DamageFound::By::recovery);
  EXPECT_EQ(found[0].segment_id, 0U);
  EXPECT_EQ(found[0].offset, 8192U);
  EXPECT_FALSE(found[0].reason.empty());

  seen_->events.clear();
  options_.verification = Verification::tail;
  open();  // it was closed, so that nothing is read
  auto reader = wal_->read_from(begin_of_log);
  ASSERT_TRUE(reader);
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(reader->next());
  }
  found = seen_->all<DamageFound>();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].by, DamageFound::By::reader);
  EXPECT_EQ(found[0].offset, 8192U);

  seen_->events.clear();
  const auto report = verify("log", &disk_, seen_);
  ASSERT_TRUE(report);
  found = seen_->all<DamageFound>();
  ASSERT_EQ(found.size(), report->damages.size());
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].by, DamageFound::By::verify);
  EXPECT_EQ(found[0].offset, report->damages[0].offset);
  EXPECT_EQ(found[0].reason, report->damages[0].reason);
}

TEST_F(WatchingTest, DamageOutsideOfSegmentsNamesItsFile) {
  open();
  append(3);
  wal_.reset();
  ASSERT_TRUE(disk_.write_file("log/strange.wal", {}));
  EXPECT_FALSE(Wal::open(options_));
  const auto found = seen_->all<DamageFound>();
  ASSERT_EQ(found.size(), 1U);
  EXPECT_NE(found[0].reason.find("strange.wal"), std::string::npos);
}

// --- listeners -----------------------------------------------------------------------------------

TEST_F(WatchingTest, AListenerMayUseTheLog) {
  open();
  std::uint64_t answered = 0;
  seen_->then = [&](const Event& event) {
    if (!std::holds_alternative<SegmentRotated>(event)) {
      return;
    }
    EXPECT_EQ(wal_->stats().rotations, answered + 1);
    EXPECT_TRUE(wal_->append(Record::put("of the listener", ""), Durability::durable));
    EXPECT_TRUE(wal_->sync());
    EXPECT_TRUE(wal_->read_from(begin_of_log)->next());
    if (++answered < 3) {
      EXPECT_TRUE(wal_->rotate());
    }
  };
  append(1);
  ASSERT_TRUE(wal_->rotate());
  EXPECT_EQ(answered, 3);
  EXPECT_EQ(wal_->current_position().sequence, 4U);
  EXPECT_EQ(wal_->stats().listener_exceptions, 0U);
}

TEST_F(WatchingTest, WhatAListenerThrowsIsDroppedAndCounted) {
  class Thrower : public EventListener {
    void on_event(const Event& /*event*/) override { throw std::bad_alloc(); }
  };
  options_.listener = std::make_shared<Thrower>();
  open();
  append(1);
  EXPECT_TRUE(wal_->rotate());
  append(1);
  EXPECT_TRUE(wal_->rotate());
  EXPECT_EQ(wal_->stats().listener_exceptions, 2U);
  EXPECT_EQ(wal_->stats().events_dropped, 0U);
}

TEST_F(WatchingTest, WhatTheDestructorCausesIsToldOfAClosedLog) {
  open();
  append(1);
  seen_->then = [&](const Event& /*event*/) {
    const auto appended = wal_->append(Record::put("key", ""));
    ASSERT_FALSE(appended);
    EXPECT_EQ(appended.error().code, ErrorCode::closed);
  };
  disk_.fail_nth(On::write, 0, EIO);
  wal_->~Wal();  // as reset() does, which would let the log be asked no more
  EXPECT_EQ(times<LogFailed>(), 1U);
  seen_->then = {};
  new (&*wal_) Wal(std::move(Wal::open(options_)->wal));
}

// --- stats ---------------------------------------------------------------------------------------

TEST_F(WatchingTest, EachSixtyFourthAppendIsTimed) {
  open();
  append(129);
  const auto stats = wal_->stats();
  EXPECT_EQ(stats.appends, 129U);
  EXPECT_EQ(stats.append_latency.count, 3U);
  EXPECT_GT(stats.append_latency.total.count(), 0);
  Batch batch;
  batch.put("a", "");
  batch.put("b", "");
  ASSERT_TRUE(wal_->append(batch));
  EXPECT_EQ(wal_->stats().appends, 130U);
  EXPECT_EQ(wal_->stats().records_appended, 131U);
}

TEST_F(WatchingTest, LatenciesAreInNanoseconds) {
  options_.fsync = FsyncPolicy::always();
  open();
  append(1);  // what begins an epoch is not asked here
  const auto before = wal_->stats();
  disk_.set_latency(
      [](On operation) { return operation == On::durable_write ? kDelay : milliseconds(0); });
  append(64);
  const auto stats = wal_->stats();
  EXPECT_EQ(stats.append_latency.count, before.append_latency.count + 1);
  EXPECT_EQ(stats.durable_wait_latency.count, before.durable_wait_latency.count + 64);
  EXPECT_EQ(stats.flush_latency.count, stats.flushes);
  EXPECT_GE(stats.sync_latency.count, before.sync_latency.count + 64);
  for (const auto* const histogram : {&stats.append_latency, &stats.durable_wait_latency,
                                      &stats.flush_latency, &stats.sync_latency}) {
    EXPECT_GE(histogram->longest, kDelay);
    EXPECT_LT(histogram->longest, std::chrono::seconds(30));
    std::uint64_t count = 0;
    for (const auto& bucket : histogram->buckets) {
      count += bucket.count;
    }
    EXPECT_EQ(count, histogram->count);
  }
  EXPECT_GE(stats.flush_latency.total - before.flush_latency.total, 64 * kDelay);
  EXPECT_GE(stats.flush_latency.quantile(0.5), kDelay);
}

TEST_F(WatchingTest, EveryWaitForTheRingIsTimed) {
  open();
  append(1);
  disk_.set_latency(
      [](On operation) { return operation == On::write ? milliseconds(1) : milliseconds(0); });
  append(200, 1000);
  const auto stats = wal_->stats();
  EXPECT_GT(stats.ring_waits, 0U);
  EXPECT_EQ(stats.flush_latency.count, stats.flushes) << "writing out is not a flush";
  EXPECT_EQ(stats.ring_wait_latency.count, stats.ring_waits);
  EXPECT_GE(stats.ring_wait_latency.longest, milliseconds(1));
}

TEST_F(WatchingTest, RecoveryIsTimed) {
  open();
  append(100, 1000);
  kill();
  disk_.set_latency([](On operation) { return operation == On::sync ? kDelay : milliseconds(0); });
  open();
  EXPECT_GE(recovery_.time_taken, kDelay);
  EXPECT_EQ(wal_->stats().recovery_time, recovery_.time_taken);
  append(1);
  EXPECT_EQ(wal_->stats().recovery_time, recovery_.time_taken);
}

}  // namespace
}  // namespace nori
