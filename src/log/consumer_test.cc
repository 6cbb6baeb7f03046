// The contract of nori/consumer.h, property by property, on a simulated disk.

#include "nori/consumer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "format/cursor.h"
#include "format/segment_header.h"
#include "nori/events.h"
#include "nori/verify.h"
#include "nori/wal.h"
#include "testing/event_recorder.h"
#include "testing/recovered_log.h"
#include "testing/results.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using std::chrono::milliseconds;
using testing::code_of;
using testing::EventRecorder;
using testing::ok;
using testing::SimulatedDisk;
using testing::Survival;
using On = testing::Operation;

class ConsumerTest : public ::testing::Test {
 public:
  ~ConsumerTest() override { wal_.reset(); }

 protected:
  static constexpr std::uint64_t kCapacityBytes = 4 * kGiB;

  ConsumerTest() {
    options_ = testing::small_options();
    options_.directory = "log";
    options_.fsync = FsyncPolicy::os();
    options_.file_system = &disk_;
    options_.listener = seen_;
    disk_.set_capacity_bytes(kCapacityBytes);
  }

  Wal& open(OpenMode mode = OpenMode::create) {
    wal_.reset();
    auto options = options_;
    options.mode = mode;
    auto opened = ok(Wal::open(options));
    wal_.emplace(std::move(opened.wal));
    return *wal_;
  }
  // As another process would have it, while somebody writes.
  Wal read_only() {
    auto options = options_;
    options.mode = OpenMode::read_only;
    return ok(Wal::open(options)).wal;
  }
  Wal& open_after_kill() {
    disk_.crash_process();
    return open();
  }
  Wal& open_after_power_cut(Survival survival = Survival::nothing) {
    disk_.power_cut(1, {.survival = survival});
    return open();
  }
  std::string open_error(OpenMode mode = OpenMode::existing) {
    wal_.reset();
    auto options = options_;
    options.mode = mode;
    const auto opened = Wal::open(options);
    return opened ? "ok" : opened.error().message;
  }

  void append(std::uint64_t records, std::size_t value_bytes = 10) {
    for (std::uint64_t i = 0; i < records; ++i) {
      ok(wal_->append(Record::put("key", std::string(value_bytes, 'v'))));
    }
  }
  // `segments` segments of 10 records each, durable, and the active one behind them.
  void append_segments(int segments) {
    for (int i = 0; i < segments; ++i) {
      append(10);
      ok(wal_->rotate());
    }
    ok(wal_->sync());
  }
  static std::vector<Sequence> read(Consumer& consumer, std::size_t at_most = 1'000'000) {
    std::vector<Sequence> sequences;
    while (sequences.size() < at_most) {
      const auto entry = ok(consumer.next());
      if (!entry) {
        break;
      }
      sequences.push_back(entry->sequence);
    }
    return sequences;
  }
  static std::vector<Sequence> numbers(Sequence first, Sequence end) {
    std::vector<Sequence> numbers;
    for (auto i = first; i < end; ++i) {
      numbers.push_back(i);
    }
    return numbers;
  }
  std::uint64_t segments() { return wal_->stats().segments; }
  void write_cursor(std::string_view name, Sequence sequence) {
    auto bytes = ok(disk_.read_file(fmt::format("log/cursors/{}.cursor", name)));
    auto value = *decode_cursor(bytes);
    value.position.sequence = sequence;
    encode_cursor(value, bytes.data());
    ok(disk_.write_file(fmt::format("log/cursors/{}.cursor", name), bytes));
  }

  SimulatedDisk disk_{7};
  std::shared_ptr<EventRecorder> seen_ = std::make_shared<EventRecorder>();
  WalOptions options_;
  std::optional<Wal> wal_;
};

// --- reading and committing ----------------------------------------------------------------------

TEST_F(ConsumerTest, GoesOnWhereItLastCommitted) {
  auto& wal = open();
  append(10);
  ok(wal.sync());
  {
    auto consumer = ok(wal.consumer("billing"));
    EXPECT_EQ(read(consumer, 6), numbers(0, 6));
    ok(consumer.commit({.sequence = 4}));
    EXPECT_EQ(consumer.committed().sequence, 4U);
    ok(consumer.close());
  }
  auto consumer = ok(wal.consumer("billing"));
  EXPECT_EQ(read(consumer), numbers(4, 10)) << "what was read and not committed comes again";
}

TEST_F(ConsumerTest, EachHasItsOwnPlace) {
  auto& wal = open();
  append(10);
  ok(wal.sync());
  auto one = ok(wal.consumer("one"));
  auto other = ok(wal.consumer("other"));
  EXPECT_EQ(read(one, 3), numbers(0, 3));
  EXPECT_EQ(read(other, 7), numbers(0, 7));
  ok(one.commit(one.position()));
  ok(other.commit(other.position()));
  EXPECT_EQ(one.committed().sequence, 3U);
  EXPECT_EQ(other.committed().sequence, 7U);
}

TEST_F(ConsumerTest, ANewOneBeginsWhereItIsTold) {
  disk_.set_now_ms(1'000'000);
  auto& wal = open();
  append(5);
  disk_.advance_ms(1000);
  append(5);
  ok(wal.sync());
  const auto first_of = [&](std::string_view name, ConsumerStart from) {
    auto consumer = ok(wal.consumer(name, {.from = from}));
    const auto entry = ok(consumer.next());
    return entry ? entry->sequence : 10;
  };
  EXPECT_EQ(first_of("begin", begin_of_log), 0U);
  EXPECT_EQ(first_of("end", end_of_log), 10U);
  EXPECT_EQ(first_of("sequence", Sequence{7}), 7U);
  EXPECT_EQ(first_of("position", Position{.sequence = 3}), 3U);
  EXPECT_EQ(first_of("time", TimePoint{milliseconds{1'000'500}}), 5U);
  EXPECT_EQ(first_of("begin", Sequence{7}), 0U) << "one that is there is not new";
  EXPECT_EQ(code_of(wal.consumer("beyond", {.from = Sequence{11}})), "invalid_argument");
}

TEST_F(ConsumerTest, ACommitNeverMovesBack) {
  auto& wal = open();
  append(10);
  ok(wal.sync());
  auto consumer = ok(wal.consumer("billing"));
  ok(consumer.commit({.sequence = 6}));
  ok(consumer.commit({.sequence = 2}));
  EXPECT_EQ(consumer.committed().sequence, 6U);
  ok(consumer.close());
  EXPECT_EQ(ok(wal.consumers()).front().position.sequence, 6U);
}

TEST_F(ConsumerTest, SeekMovesBackAndForwardDurably) {
  auto& wal = open();
  append(10);
  ok(wal.sync());
  auto consumer = ok(wal.consumer("billing"));
  ok(consumer.commit({.sequence = 6}));
  ok(consumer.seek(Sequence{2}));
  EXPECT_EQ(consumer.committed().sequence, 2U);
  EXPECT_EQ(read(consumer, 2), numbers(2, 4));
  auto& again = open_after_power_cut();
  EXPECT_EQ(ok(again.consumers()).front().position.sequence, 2U);
  auto reopened = ok(again.consumer("billing"));
  ok(reopened.seek(end_of_log));
  EXPECT_EQ(read(reopened), numbers(0, 0));
  ok(reopened.seek(begin_of_log));
  EXPECT_EQ(read(reopened), numbers(0, 10));
}

// Its new place may have its name by then, and a deletion would go by that.
TEST_F(ConsumerTest, ASeekThatFailsLeavesWhatIsInFrontOfItsPlace) {
  auto& wal = open();
  append_segments(3);
  auto consumer = ok(wal.consumer("billing"));
  disk_.fail_nth(On::directory_sync, 1, EIO);
  EXPECT_EQ(code_of(consumer.seek(end_of_log)), "io");
  EXPECT_EQ(disk_.faults_hit(), 1U);
  EXPECT_EQ(consumer.committed().sequence, 0U);
  EXPECT_EQ(ok(wal.delete_segments_before(wal.current_position())), 0U);
  EXPECT_EQ(ok(consumer.next())->sequence, 0U);
}

TEST_F(ConsumerTest, SeesOnlyWhatIsDurableUnlessAsked) {
  auto& wal = open();
  append(5);
  ok(wal.sync());
  append(5);
  auto durable = ok(wal.consumer("durable"));
  auto appended = ok(wal.consumer("appended", {.visible = Visible::appended}));
  EXPECT_EQ(read(durable), numbers(0, 5));
  EXPECT_EQ(read(appended), numbers(0, 10));
}

TEST_F(ConsumerTest, ACommitWaitsUntilTheLogIsDurableSoFar) {
  auto& wal = open();
  append(5);
  auto consumer = ok(wal.consumer("billing", {.visible = Visible::appended}));
  EXPECT_EQ(wal.durable_position().sequence, 0U);
  ok(consumer.commit({.sequence = 5}));
  EXPECT_EQ(wal.durable_position().sequence, 5U);
  EXPECT_EQ(code_of(consumer.commit({.sequence = 6})), "invalid_argument");
  EXPECT_EQ(consumer.committed().sequence, 5U);
}

TEST_F(ConsumerTest, IsKilledBetweenReadAndCommitAndReadsAgain) {
  auto& wal = open();
  append(10);
  ok(wal.sync());
  {
    auto consumer = ok(wal.consumer("billing"));
    EXPECT_EQ(read(consumer, 5), numbers(0, 5));
    ok(consumer.commit({.sequence = 3}));
    ok(consumer.flush());
    EXPECT_EQ(read(consumer, 3), numbers(5, 8));
    disk_.crash_process();
  }
  auto consumer = ok(open().consumer("billing"));
  EXPECT_EQ(read(consumer), numbers(3, 10));
}

TEST_F(ConsumerTest, WhatWasFlushedSurvivesAPowerCut) {
  auto& wal = open();
  append(10);
  ok(wal.sync());
  auto consumer = ok(wal.consumer("billing"));
  ok(consumer.commit({.sequence = 4}));
  ok(consumer.flush());
  ok(consumer.commit({.sequence = 8}));
  EXPECT_EQ(ok(open_after_power_cut().consumers()).front().position.sequence, 4U);
}

TEST_F(ConsumerTest, AFlushAfterAFailedDirectorySyncWritesAgain) {
  auto& wal = open();
  append(10);
  ok(wal.sync());
  auto consumer = ok(wal.consumer("billing"));
  ok(consumer.commit({.sequence = 4}));
  disk_.fail_nth(On::directory_sync, 0, EIO);
  EXPECT_EQ(code_of(consumer.flush()), "io");
  const auto operations = disk_.operations();
  ok(consumer.flush());
  EXPECT_GT(disk_.operations(), operations + 2) << "the rename may be lost";
  EXPECT_EQ(ok(open_after_power_cut().consumers()).front().position.sequence, 4U);
}

TEST_F(ConsumerTest, AFullDiskTakesNoCommitAndTakesItLater) {
  auto& wal = open();
  append(10);
  ok(wal.sync());
  auto consumer = ok(wal.consumer("billing"));
  ok(consumer.commit({.sequence = 4}));
  disk_.set_capacity_bytes(kCapacityBytes - disk_.free_bytes());
  EXPECT_EQ(code_of(consumer.flush()), "no_space");
  EXPECT_EQ(ok(wal.consumers()).front().position.sequence, 0U);
  disk_.set_capacity_bytes(kCapacityBytes);
  ok(consumer.flush());
  EXPECT_EQ(ok(wal.consumers()).front().position.sequence, 4U);
}

TEST_F(ConsumerTest, LagIsToldInRecordsBytesAndTime) {
  disk_.set_now_ms(1'000'000);
  auto& wal = open();
  auto consumer = ok(wal.consumer("billing"));
  EXPECT_EQ(ok(consumer.lag()).records, 0U);
  append(10, 1000);
  ok(wal.sync());
  disk_.advance_ms(250);
  auto lag = ok(consumer.lag());
  EXPECT_EQ(lag.records, 10U);
  EXPECT_GT(lag.bytes, 10'000U);
  EXPECT_LT(lag.bytes, 30'000U);
  EXPECT_EQ(lag.time, milliseconds{250});
  EXPECT_EQ(read(consumer).size(), 10U);
  ok(wal.rotate());
  append(1);
  ok(wal.sync());
  EXPECT_EQ(read(consumer).size(), 1U);
  ok(consumer.commit(consumer.position()));
  append(1);
  lag = ok(consumer.lag());
  EXPECT_EQ(lag.records, 1U);
  EXPECT_LT(lag.bytes, 5'000U) << "of the second segment alone";
  ok(wal.sync());
  EXPECT_EQ(read(consumer).size(), 1U);
  ok(consumer.commit(consumer.position()));
  lag = ok(consumer.lag());
  EXPECT_EQ(lag.records, 0U);
  EXPECT_EQ(lag.bytes, 0U);
  EXPECT_EQ(lag.time, milliseconds{0});
}

TEST_F(ConsumerTest, TwoOfOneNameAreNone) {
  auto& wal = open();
  append(1);
  auto consumer = ok(wal.consumer("billing"));
  const auto second = wal.consumer("billing");
  ASSERT_EQ(code_of(second), "locked");
  EXPECT_NE(second.error().message.find("host simulated"), std::string::npos)
      << second.error().message;
  EXPECT_EQ(code_of(wal.drop_consumer("billing")), "locked");
  ok(consumer.close());
  EXPECT_EQ(code_of(consumer.next()), "closed");
  EXPECT_EQ(code_of(wal.consumer("billing")), "ok");
}

TEST_F(ConsumerTest, NamesAreOfASafeSet) {
  auto& wal = open();
  for (const auto* const name : {"", ".hidden", "a/b", "a b", "ä", "..", "a\n"}) {
    EXPECT_EQ(code_of(wal.consumer(name)), "invalid_argument") << name;
    EXPECT_EQ(code_of(wal.drop_consumer(name)), "invalid_argument") << name;
  }
  EXPECT_EQ(code_of(wal.consumer(std::string(129, 'a'))), "invalid_argument");
  EXPECT_EQ(code_of(wal.consumer(std::string(128, 'a'))), "ok");
  EXPECT_EQ(code_of(wal.consumer("A-z_0.9")), "ok");
}

TEST_F(ConsumerTest, ADroppedOneIsForgotten) {
  auto& wal = open();
  append_segments(3);
  EXPECT_EQ(code_of(wal.drop_consumer("billing")), "gone");
  ok(ok(wal.consumer("billing")).close());
  EXPECT_EQ(code_of(wal.drop_consumer("other")), "gone");
  EXPECT_EQ(ok(wal.delete_segments_before({.sequence = 30})), 0U);
  ok(wal.drop_consumer("billing"));
  EXPECT_TRUE(ok(wal.consumers()).empty());
  EXPECT_EQ(ok(wal.delete_segments_before({.sequence = 30})), 3U);
  auto& again = open_after_power_cut();
  EXPECT_TRUE(ok(again.consumers()).empty());
}

TEST_F(ConsumerTest, OutlivesItsLogToCommit) {
  auto& wal = open();
  append(10);
  ok(wal.sync());
  auto consumer = ok(wal.consumer("billing"));
  EXPECT_EQ(read(consumer, 5), numbers(0, 5));
  ok(wal.close());
  EXPECT_EQ(code_of(consumer.next()), "closed");
  ok(consumer.commit(Position{.sequence = 5}));
  ok(consumer.close());
  EXPECT_EQ(ok(open().consumers()).front().position.sequence, 5U);
}

TEST_F(ConsumerTest, OnceClosedItAnswersNothingElse) {
  auto& wal = open();
  append(3);
  ok(wal.sync());
  auto consumer = ok(wal.consumer("billing"));
  ok(consumer.close());
  EXPECT_EQ(code_of(consumer.next()), "closed");
  EXPECT_EQ(code_of(consumer.follow(milliseconds{0})), "closed");
  EXPECT_EQ(code_of(consumer.commit({.sequence = 1})), "closed");
  EXPECT_EQ(code_of(consumer.flush()), "closed");
  EXPECT_EQ(code_of(consumer.seek(begin_of_log)), "closed");
  EXPECT_EQ(code_of(consumer.lag()), "closed");
  EXPECT_EQ(code_of(consumer.close()), "closed");
}

TEST_F(ConsumerTest, OfAClosedLogItReadsNoMore) {
  auto& wal = open();
  append(3);
  ok(wal.sync());
  auto consumer = ok(wal.consumer("billing"));
  ok(wal.close());
  EXPECT_EQ(code_of(consumer.next()), "closed");
  EXPECT_EQ(code_of(consumer.follow(milliseconds{0})), "closed");
  EXPECT_EQ(code_of(consumer.seek(begin_of_log)), "closed");
  EXPECT_EQ(code_of(consumer.lag()), "closed");
  EXPECT_EQ(code_of(wal.consumer("other")), "closed");
  EXPECT_EQ(code_of(wal.consumers()), "closed");
  EXPECT_EQ(code_of(wal.drop_consumer("other")), "closed");
}

TEST_F(ConsumerTest, MovesAndGivesItsNameBack) {
  auto& wal = open();
  append(3);
  ok(wal.sync());
  auto one = ok(wal.consumer("one"));
  auto other = ok(wal.consumer("other"));
  ok(one.commit({.sequence = 2}));
  one = std::move(other);
  EXPECT_EQ(ok(wal.consumers()).front().position.sequence, 2U) << "flushed where it ended";
  EXPECT_EQ(code_of(wal.consumer("one")), "ok");
  EXPECT_EQ(code_of(wal.consumer("other")), "locked");
  auto& same = one;
  one = std::move(same);
  EXPECT_EQ(read(one), numbers(0, 3));
}

// --- beside a writer in another process ----------------------------------------------------------

TEST_F(ConsumerTest, WorksReadOnlyBesideAWriter) {
  auto& wal = open();
  append(10);
  ok(wal.sync());
  append(5);
  auto reading = read_only();
  auto consumer = ok(reading.consumer("billing", {.timeout = milliseconds{20}}));
  EXPECT_EQ(read(consumer), numbers(0, 10));
  ok(consumer.commit({.sequence = 10}));
  EXPECT_EQ(code_of(consumer.commit({.sequence = 12})), "busy") << "not durable yet";
  EXPECT_EQ(ok(consumer.lag()).records, 0U) << "none that is durable";
  ok(wal.sync());
  ok(consumer.commit({.sequence = 12}));
  EXPECT_EQ(ok(consumer.lag()).records, 3U);
  EXPECT_EQ(read(consumer), numbers(10, 15));
  EXPECT_EQ(code_of(wal.consumer("billing")), "locked");
  ok(consumer.close());
  EXPECT_EQ(ok(wal.consumers()).front().position.sequence, 12U);
}

TEST_F(ConsumerTest, SeesTheLastRecordsOfAWriterThatCloses) {
  auto& wal = open();
  append(5);
  ok(wal.sync());
  auto reading = read_only();
  auto consumer = ok(reading.consumer("billing", {.timeout = milliseconds{20}}));
  EXPECT_EQ(read(consumer), numbers(0, 5));
  append(5);
  EXPECT_EQ(read(consumer), numbers(0, 0));
  ok(wal.close());
  EXPECT_EQ(read(consumer), numbers(5, 10));
  ok(consumer.commit({.sequence = 10}));
}

TEST_F(ConsumerTest, BesideAWriterItsEndIsWhatIsDurable) {
  auto& wal = open();
  append(5);
  ok(wal.sync());
  append(5);
  auto reading = read_only();
  auto consumer = ok(reading.consumer("billing", {.from = end_of_log}));
  EXPECT_EQ(consumer.committed().sequence, 5U);
  EXPECT_EQ(ok(consumer.lag()).records, 0U);
}

// Another user's: what only it has is not seen, and is not waited for.
TEST_F(ConsumerTest, ARingThatMayNotBeReadKeepsNobodyFromReading) {
  auto& wal = open();
  append(10);
  ok(wal.rotate());
  ok(wal.sync());
  disk_.inject({.operations = On::open,
                .system_errno = EACCES,
                .repeat = testing::Repeat::forever,
                .name_suffix = "ring"});
  auto reading = read_only();
  auto consumer = ok(reading.consumer("billing"));
  EXPECT_EQ(read(consumer), numbers(0, 10));
  ok(consumer.commit({.sequence = 10}));
  EXPECT_EQ(ok(consumer.lag()).records, 0U);
  disk_.clear_faults();
  disk_.inject({.operations = On::open, .system_errno = EIO, .name_suffix = "ring"});
  EXPECT_EQ(code_of(consumer.lag()), "io");
}

TEST_F(ConsumerTest, AReadOnlyOpeningMakesNothing) {
  open();
  append(1);
  ok(wal_->close());
  const auto before = ok(disk_.list_files("log"));
  {
    const auto reading = read_only();
    EXPECT_TRUE(ok(reading.consumers()).empty());
    EXPECT_TRUE(reading.stats().holds.empty());
  }
  EXPECT_EQ(ok(disk_.list_files("log")), before);
}

TEST(ConsumerForkTest, TheChildsIsUnusableAndTheParentsGoesOn) {
  std::string directory = ::testing::TempDir() + "nori-consumer-XXXXXX";
  ASSERT_NE(::mkdtemp(directory.data()), nullptr);
  {
    auto wal = ok(Wal::open({.directory = directory})).wal;
    ok(wal.append(Record::put("key", "value"), Durability::durable));
    auto consumer = std::make_unique<Consumer>(ok(wal.consumer("billing")));
    const auto child = ::fork();
    if (child == 0) {
      const bool refused = code_of(consumer->next()) == "closed" &&
                           code_of(consumer->commit({.sequence = 1})) == "closed" &&
                           code_of(consumer->flush()) == "closed" &&
                           consumer->committed() == Position{};
      consumer.reset();
      ::_exit(refused ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_TRUE(ok(consumer->next()));
    ok(consumer->commit({.sequence = 1}));
    ok(consumer->close());
    EXPECT_EQ(ok(wal.consumers()).front().position.sequence, 1U);
  }
  std::filesystem::remove_all(directory);
}

// --- holding back deletion -----------------------------------------------------------------------

TEST_F(ConsumerTest, WhatItHasNotCommittedStays) {
  auto& wal = open();
  append_segments(4);
  auto consumer = ok(wal.consumer("billing"));
  ok(consumer.commit({.sequence = 19}));
  EXPECT_EQ(ok(wal.delete_segments_before({.sequence = 40})), 0U) << "nothing was written yet";
  ok(consumer.flush());
  EXPECT_EQ(ok(wal.delete_segments_before({.sequence = 40})), 1U) << "record 19 is in the second";
  ok(consumer.commit({.sequence = 23}));
  ok(consumer.flush());
  EXPECT_EQ(ok(wal.delete_segments_before({.sequence = 40})), 1U);
  EXPECT_EQ(read(consumer, 3), numbers(23, 26)) << "what was committed unread is passed over";
}

TEST_F(ConsumerTest, AtTheEndOfADeletedSegmentItGoesOnWithTheNext) {
  open();
  append(1);
  auto& wal = open();
  auto consumer = ok(wal.consumer("billing", {.from = end_of_log}));
  auto reader = ok(wal.read_from(Sequence{1}));
  ok(wal.rotate());
  append(1);
  ok(wal.sync());
  ASSERT_EQ(ok(wal.delete_segments_before({.sequence = 2})), 1U);
  EXPECT_EQ(read(consumer), numbers(1, 2));
  EXPECT_EQ(ok(reader.next())->sequence, 1U) << "nor has a reader missed anything";
}

TEST_F(ConsumerTest, HoldsAreTold) {
  disk_.set_now_ms(5'000'000);
  auto& wal = open();
  append_segments(4);
  auto consumer = ok(wal.consumer("billing", {.from = Sequence{25}}));
  const auto holds = wal.stats().holds;
  ASSERT_EQ(holds.size(), 1U);
  EXPECT_EQ(holds[0].what, "cursor");
  EXPECT_EQ(holds[0].name, "billing");
  EXPECT_EQ(holds[0].position.sequence, 25U);
  EXPECT_EQ(holds[0].since, TimePoint{milliseconds{5'000'000}});
  const auto all = ok(wal.deletable_by({.max_bytes = 1}));
  EXPECT_EQ(all.segments, 2U);
  EXPECT_GT(holds[0].bytes_held, 0U);
  ok(consumer.commit({.sequence = 40}));
  ok(consumer.flush());
  EXPECT_TRUE(wal.stats().holds.empty());
}

TEST_F(ConsumerTest, AnUnreadableCursorHoldsEverythingBackAndIsReported) {
  auto& wal = open();
  append_segments(3);
  ok(ok(wal.consumer("billing", {.from = end_of_log})).close());
  const auto good = ok(disk_.read_file("log/cursors/billing.cursor"));
  auto foreign = good;
  auto value = *decode_cursor(good);
  value.log_id.bytes[0] ^= std::byte{1};
  encode_cursor(value, foreign.data());
  const auto expect_held = [&](std::string_view why) {
    EXPECT_EQ(ok(wal_->delete_segments_before({.sequence = 30})), 0U) << why;
    EXPECT_EQ(ok(wal_->apply_retention({.max_bytes = 1})), 0U) << why;
    const auto holds = wal_->stats().holds;
    ASSERT_EQ(holds.size(), 1U) << why;
    EXPECT_TRUE(holds[0].unreadable) << why;
    EXPECT_GT(holds[0].bytes_held, 0U) << why;
    EXPECT_EQ(seen_->all<CursorUnreadable>().size(), 1U) << why;
    EXPECT_NE(code_of(wal_->consumer("billing")), "ok") << why;
    EXPECT_TRUE(ok(wal_->consumers()).front().unreadable) << why;
    seen_->events.clear();
    open();
    EXPECT_EQ(seen_->all<CursorUnreadable>().size(), 1U) << "at open: " << why;
    seen_->events.clear();
    open();
    seen_->events.clear();
  };
  ok(disk_.flip_bit("log/cursors/billing.cursor", 50, 3));
  expect_held("a flipped bit");
  ok(disk_.write_file("log/cursors/billing.cursor", foreign));
  open();
  seen_->events.clear();
  EXPECT_EQ(code_of(wal_->consumer("billing")), "damaged");
  EXPECT_TRUE(ok(wal_->consumers()).front().unreadable);
  // The same opening tells it once; this one told it already.
  EXPECT_EQ(ok(wal_->delete_segments_before({.sequence = 30})), 0U);
  ok(disk_.write_file("log/cursors/billing.cursor", good));
  ok(disk_.make_unreadable("log/cursors/billing.cursor", 0, 84));
  EXPECT_EQ(ok(wal_->delete_segments_before({.sequence = 30})), 0U);
  ok(disk_.write_file("log/cursors/billing.cursor", good));
  EXPECT_EQ(ok(wal_->delete_segments_before({.sequence = 30})), 3U);
}

TEST_F(ConsumerTest, ACapDropsItWithAnEvent) {
  auto& wal = open();
  append_segments(4);
  const auto four = ok(wal.deletable_by({.max_bytes = 1}));
  ASSERT_EQ(four.segments, 4U);
  auto patient = ok(wal.consumer("patient"));
  auto capped = ok(wal.consumer("capped", {.max_lag_bytes = four.bytes - 1}));
  EXPECT_EQ(ok(wal.delete_segments_before({.sequence = 30})), 0U);
  EXPECT_TRUE(seen_->all<ConsumerDropped>().empty()) << "three segments are less than its cap";
  ok(patient.close());
  ok(wal.drop_consumer("patient"));
  EXPECT_EQ(read(capped, 1), numbers(0, 1));
  EXPECT_EQ(ok(wal.delete_segments_before({.sequence = 40})), 4U);
  const auto dropped = seen_->all<ConsumerDropped>();
  ASSERT_EQ(dropped.size(), 1U);
  EXPECT_EQ(dropped[0].name, "capped");
  EXPECT_EQ(dropped[0].position.sequence, 0U);
  EXPECT_EQ(dropped[0].bytes_held, four.bytes);
  EXPECT_EQ(code_of(capped.next()), "gone");
  EXPECT_EQ(code_of(capped.commit({.sequence = 1})), "gone");
  EXPECT_EQ(code_of(capped.flush()), "gone");
  EXPECT_TRUE(ok(wal.consumers()).empty());
}

TEST_F(ConsumerTest, WhatIsDeletableCountsWhoIsDroppedAndWhoIsNot) {
  auto& wal = open();
  EXPECT_EQ(ok(wal.deletable_by({.max_bytes = 1})).segments, 0U);
  EXPECT_EQ(ok(wal.deletable_by({.max_bytes = 1})).first_sequence, 0U);
  EXPECT_EQ(code_of(wal.deletable_by({.max_age = milliseconds{-1}})), "invalid_argument");
  append_segments(4);
  const auto four = ok(wal.deletable_before({.sequence = 40}));
  EXPECT_EQ(four.segments, 4U);
  EXPECT_EQ(four.first_sequence, 40U);
  EXPECT_EQ(ok(wal.deletable_before({.sequence = 39})).segments, 3U);
  ok(ok(wal.consumer("capped", {.max_lag_bytes = four.bytes - 1})).close());
  EXPECT_EQ(ok(wal.deletable_before({.sequence = 40})).segments, 4U) << "it would be dropped";
  EXPECT_EQ(ok(wal.deletable_before({.sequence = 30})).segments, 0U) << "it would not";
  ok(ok(wal.consumer("patient", {.from = Sequence{25}})).close());
  EXPECT_EQ(ok(wal.deletable_before({.sequence = 40})).segments, 2U);
  ok(disk_.flip_bit("log/cursors/patient.cursor", 50, 3));
  EXPECT_EQ(ok(wal.deletable_before({.sequence = 40})).segments, 0U) << "nobody knows";
  EXPECT_EQ(segments(), 5U) << "none of it was done";
}

TEST_F(ConsumerTest, OneThatNobodyHasIsDroppedToo) {
  auto& wal = open();
  append_segments(3);
  ok(ok(wal.consumer("capped", {.max_lag_bytes = 1})).close());
  EXPECT_EQ(ok(wal.delete_segments_before({.sequence = 30})), 3U);
  EXPECT_EQ(seen_->all<ConsumerDropped>().size(), 1U);
  EXPECT_TRUE(ok(wal.consumers()).empty());
}

TEST_F(ConsumerTest, AnUnreadableCursorIsAHoldThoughItHoldsNothingYet) {
  auto& wal = open();
  append(1);
  ok(wal.sync());
  ok(ok(wal.consumer("billing")).close());
  EXPECT_TRUE(wal.stats().holds.empty());
  ok(disk_.flip_bit("log/cursors/billing.cursor", 50, 3));
  const auto holds = wal.stats().holds;
  ASSERT_EQ(holds.size(), 1U);
  EXPECT_TRUE(holds[0].unreadable);
  EXPECT_EQ(holds[0].bytes_held, 0U);
}

// A file whose header is bad, or another log's, says nothing of what lies before it.
TEST_F(ConsumerTest, DeletionEndsBeforeWhatItCannotJudge) {
  auto& wal = open();
  append_segments(4);
  const auto good = ok(disk_.read_file("log/000002.wal"));
  auto bad = good;
  bad[40] ^= std::byte{1};
  auto foreign = good;
  auto header = *decode_segment_header(good);
  header.log_id.bytes[0] ^= std::byte{1};
  encode_segment_header(header, foreign.data());
  for (const auto& bytes : {bad, foreign}) {
    ok(disk_.write_file("log/000002.wal", bytes));
    EXPECT_EQ(ok(wal.deletable_before({.sequence = 40})).segments, 1U);
  }
  EXPECT_EQ(ok(wal.delete_segments_before({.sequence = 40})), 1U);
  ok(disk_.write_file("log/000002.wal", good));
  EXPECT_EQ(ok(wal.delete_segments_before({.sequence = 40})), 3U);
}

TEST_F(ConsumerTest, IsToldThatAnotherProcessDroppedIt) {
  auto& wal = open();
  append_segments(3);
  auto reading = read_only();
  auto consumer = ok(reading.consumer("capped", {.max_lag_bytes = 1}));
  EXPECT_EQ(read(consumer, 30).size(), 30U);
  ok(consumer.commit({.sequence = 5}));
  EXPECT_EQ(ok(wal.apply_retention({.max_bytes = 1})), 3U);
  EXPECT_EQ(code_of(consumer.flush()), "gone");
  EXPECT_EQ(code_of(consumer.next()), "gone");
  EXPECT_EQ(code_of(consumer.commit({.sequence = 7})), "gone");
  EXPECT_TRUE(ok(wal.consumers()).empty()) << "it did not make itself anew";
}

TEST_F(ConsumerTest, AtTheEndACappedOneLooksWhetherItIsThere) {
  auto& wal = open();
  append(3);
  ok(wal.sync());
  auto reading = read_only();
  auto consumer = ok(reading.consumer("capped", {.max_lag_bytes = 1}));
  EXPECT_EQ(read(consumer), numbers(0, 3));
  ok(disk_.remove_file("log/cursors/capped.cursor"));
  EXPECT_EQ(code_of(consumer.next()), "gone");
  EXPECT_EQ(code_of(consumer.next()), "gone");
}

TEST_F(ConsumerTest, IsToldThatAnotherOfItsNameWasMade) {
  auto& wal = open();
  append_segments(3);
  auto reading = read_only();
  auto consumer = ok(reading.consumer("capped", {.max_lag_bytes = 1}));
  const auto bytes = ok(disk_.read_file("log/cursors/capped.cursor"));
  ok(disk_.remove_file("log/cursors/capped.cursor"));
  ok(disk_.write_file("log/cursors/capped.cursor", bytes));
  ok(consumer.commit({.sequence = 5}));
  EXPECT_EQ(code_of(consumer.flush()), "gone");
  EXPECT_EQ(ok(wal.consumers()).front().position.sequence, 0U) << "the other one stays";
}

TEST_F(ConsumerTest, WaitsForWhatFollowsBehindWhatItPassedOver) {
  auto& wal = open();
  for (int i = 0; i < 3; ++i) {
    append(10, 10'000);  // more than the ring still has
    ok(wal.rotate());
  }
  ok(wal.sync());
  auto consumer = ok(wal.consumer("billing"));
  EXPECT_EQ(read(consumer, 1), numbers(0, 1));
  ok(consumer.commit({.sequence = 20}));
  ok(consumer.flush());
  EXPECT_GE(ok(wal.delete_segments_before({.sequence = 20})), 2U);
  while (ok(consumer.follow(milliseconds{0}))) {
    const auto entry = ok(consumer.next());
    ASSERT_TRUE(entry);
    ASSERT_TRUE(entry->sequence < 10 || entry->sequence >= 20) << entry->sequence;
  }
  EXPECT_EQ(consumer.position().sequence, 30U);
}

TEST_F(ConsumerTest, WhatItHasNotCommittedAndIsGoneIsTold) {
  auto& wal = open();
  for (int i = 0; i < 3; ++i) {
    append(10, 10'000);  // more than the ring still has
    ok(wal.rotate());
  }
  ok(wal.sync());
  auto consumer = ok(wal.consumer("billing"));
  EXPECT_EQ(read(consumer, 1), numbers(0, 1));
  for (std::uint64_t id = 0; id + 1 < wal.stats().active_segment_id; ++id) {
    ok(disk_.remove_file(fmt::format("log/{:06}.wal", id)));
  }
  auto entry = consumer.next();
  while (entry && *entry) {
    entry = consumer.next();  // of the file that it holds open
  }
  EXPECT_EQ(code_of(entry), "gone");
  EXPECT_EQ(code_of(consumer.follow(milliseconds{0})), "gone");
}

// Goal: an error on the way behind what it passed over is told, and it goes on.
TEST_F(ConsumerTest, FailsAtEveryCallOfPassingOverAndGoesOn) {
  for (const auto operation : {On::open, On::read, On::status, On::list}) {
    for (std::uint64_t after = 0;; ++after) {
      options_.directory = fmt::format("log {} {}", testing::operation_name(operation), after);
      auto& wal = open();
      for (int i = 0; i < 3; ++i) {
        append(10, 10'000);
        ok(wal.rotate());
      }
      ok(wal.sync());
      auto consumer = ok(wal.consumer("billing"));
      EXPECT_EQ(read(consumer, 1), numbers(0, 1));
      ok(consumer.commit({.sequence = 20}));
      ok(consumer.flush());
      EXPECT_GE(ok(wal.delete_segments_before({.sequence = 20})), 2U);
      const auto hits = disk_.faults_hit();
      disk_.fail_nth(operation, after, EIO);
      int errors = 0;
      while (true) {
        const auto entry = consumer.next();
        if (!entry) {
          ASSERT_EQ(code_of(entry), "io");
          ASSERT_LE(++errors, 1);
        } else if (!*entry) {
          break;
        } else {
          ASSERT_TRUE((*entry)->sequence < 10 || (*entry)->sequence >= 20);
        }
      }
      disk_.clear_faults();
      EXPECT_EQ(consumer.position().sequence, 30U);
      if (disk_.faults_hit() == hits) {
        break;
      }
    }
  }
}

// Goal: beside a writer, what cannot be read is told, and it stands where it stood.
TEST_F(ConsumerTest, ReadOnlyItFailsAtEveryCallAndStaysWhereItIs) {
  disk_.set_now_ms(1'000'000);
  auto& wal = open();
  append(10);
  ok(wal.sync());
  auto reading = read_only();
  auto consumer = ok(reading.consumer("billing", {.timeout = milliseconds{20}}));
  const std::function<Result<void>()> works[] = {
      [&] { return consumer.seek(end_of_log); },
      [&] { return consumer.seek(TimePoint{milliseconds{1'000'000}}); },
      [&] { return consumer.seek(Sequence{3}); },
      [&] { return consumer.commit({.sequence = 12}); },
  };
  for (const auto& work : works) {
    for (const auto operation : {On::open, On::read, On::status, On::list}) {
      for (std::uint64_t after = 0;; ++after) {
        const auto before = consumer.committed();
        const auto hits = disk_.faults_hit();
        disk_.fail_nth(operation, after, EIO);
        const auto done = work();
        disk_.clear_faults();
        if (disk_.faults_hit() == hits) {
          break;
        }
        if (!done) {
          EXPECT_EQ(code_of(done), "io");
          EXPECT_EQ(consumer.committed(), before);
        }
      }
    }
  }
}

// Beside a deletion: one that is there when they are listed, and gone then.
TEST_F(ConsumerTest, WhatGoesMeanwhileIsNoError) {
  auto& wal = open();
  append_segments(3);
  auto consumer = ok(wal.consumer("billing"));
  const auto all = ok(consumer.lag()).bytes;
  disk_.inject({.operations = On::open, .system_errno = ENOENT, .name_suffix = "000001.wal"});
  EXPECT_LT(ok(consumer.lag()).bytes, all);
  ok(consumer.close());
  disk_.inject({.operations = On::remove, .system_errno = ENOENT, .name_suffix = ".cursor"});
  ok(wal.drop_consumer("billing"));
}

TEST_F(ConsumerTest, ACapCanBeChanged) {
  auto& wal = open();
  append(1);
  ok(ok(wal.consumer("billing")).close());
  EXPECT_EQ(ok(wal.consumers()).front().max_lag_bytes, 0U);
  ok(ok(wal.consumer("billing", {.max_lag_bytes = 100})).close());
  EXPECT_EQ(ok(wal.consumers()).front().max_lag_bytes, 100U);
  ok(ok(wal.consumer("billing")).close());
  ok(ok(wal.consumer("billing", {.max_lag_bytes = 100})).close());
  EXPECT_EQ(ok(wal.consumers()).front().max_lag_bytes, 100U);
}

TEST_F(ConsumerTest, OneBehindWhatIsLeftIsGone) {
  auto& wal = open();
  append_segments(3);
  ok(ok(wal.consumer("billing", {.from = Sequence{25}})).close());
  ok(wal.delete_segments_before({.sequence = 30}));
  write_cursor("billing", 3);
  EXPECT_EQ(code_of(wal.consumer("billing")), "gone");
  EXPECT_EQ(code_of(wal.consumer("late", {.from = Sequence{3}})), "gone");
}

TEST_F(ConsumerTest, NobodyMakesACursorWhileSegmentsAreDeleted) {
  auto& wal = open();
  append_segments(3);
  const auto directory = ok(disk_.open_directory("log", false));
  auto deleting = ok(directory->lock("cursors.lock", "somebody who deletes"));
  auto consumer = wal.consumer("billing", {.timeout = milliseconds{5}});
  ASSERT_EQ(code_of(consumer), "locked");
  EXPECT_NE(consumer.error().message.find("somebody who deletes"), std::string::npos);
  deleting.reset();
  auto made = ok(wal.consumer("billing", {.timeout = milliseconds{5}}));
  ok(ok(wal.consumer("other")).close());
  ok(made.commit({.sequence = 20}));
  deleting = ok(directory->lock("cursors.lock", "somebody who deletes"));
  ok(made.flush());
  EXPECT_EQ(code_of(made.seek(begin_of_log)), "locked");
  EXPECT_EQ(made.committed().sequence, 20U);
  EXPECT_EQ(code_of(wal.consumer("other", {.max_lag_bytes = 1, .timeout = milliseconds{5}})),
            "locked")
      << "nor sets a cap";
}

// --- evidence ------------------------------------------------------------------------------------

TEST_F(ConsumerTest, ALogThatEndsBeforeACursorIsDamaged) {
  auto& wal = open();
  append(10);
  ok(wal.sync());
  ok(ok(wal.consumer("billing", {.from = end_of_log})).close());
  ok(ok(wal.consumer("behind")).close());
  ok(wal.close());
  EXPECT_EQ(open_error(), "ok");
  write_cursor("billing", 11);
  const auto closed = open_error();
  EXPECT_NE(closed.find("cursor billing says that everything before record 11 was durable"),
            std::string::npos)
      << closed;
  const auto report = ok(verify("log", &disk_));
  ASSERT_EQ(report.damages.size(), 1U);
  EXPECT_NE(report.damages[0].reason.find("cursor billing"), std::string::npos);
  write_cursor("billing", 10);
  EXPECT_EQ(open_error(), "ok");
  EXPECT_TRUE(ok(verify("log", &disk_)).damages.empty());
}

TEST_F(ConsumerTest, ATornTailThatACursorHasPassedIsDamage) {
  auto& wal = open();
  append(10);
  ok(wal.sync());
  ok(ok(wal.consumer("billing", {.from = end_of_log})).close());
  append(3);
  disk_.crash_process();
  wal_.reset();
  ok(disk_.remove_file("log/ring"));
  const auto file = ok(disk_.read_file("log/000000.wal"));
  EXPECT_EQ(open_error(), "ok");
  auto cut = file;
  cut.resize(2 * 4096);  // the header and the opening frame
  disk_.crash_process();
  ok(disk_.write_file("log/000000.wal", cut));
  const auto damaged = open_error();
  EXPECT_NE(damaged.find("cursor billing says that everything before record 10 was durable"),
            std::string::npos)
      << damaged;
  ok(disk_.remove_file("log/cursors/billing.cursor"));
  EXPECT_EQ(open_error(), "ok");
}

TEST_F(ConsumerTest, CursorsWithoutALogAreDamage) {
  auto& wal = open();
  append(1);
  ok(ok(wal.consumer("billing")).close());
  ok(wal.close());
  wal_.reset();
  ok(disk_.remove_file("log/000000.wal"));
  const auto message = open_error(OpenMode::create);
  EXPECT_NE(message.find("holds the cursor billing of a log, but no segment"), std::string::npos)
      << message;
}

// --- retention -----------------------------------------------------------------------------------

TEST_F(ConsumerTest, RetentionKeepsSoManyBytes) {
  auto& wal = open();
  append_segments(6);
  const auto before = wal.stats();
  ASSERT_EQ(before.segments, 7U);
  const auto one = ok(wal.deletable_by({.max_bytes = 1})).bytes / 6;
  EXPECT_EQ(ok(wal.apply_retention({.max_bytes = before.bytes_on_disk})), 0U);
  EXPECT_EQ(ok(wal.apply_retention({.max_bytes = before.bytes_on_disk - 2 * one})), 2U);
  EXPECT_LE(wal.stats().bytes_on_disk, before.bytes_on_disk - 2 * one);
  EXPECT_EQ(ok(wal.apply_retention({.max_bytes = 1})), 4U) << "never the active one";
  EXPECT_EQ(wal.stats().segments_deleted, 6U);
  EXPECT_EQ(ok(wal.apply_retention()), 0U) << "nothing by default";
  EXPECT_EQ(code_of(read_only().apply_retention({.max_bytes = 1})), "invalid_argument");
  EXPECT_EQ(code_of(wal.apply_retention({.max_age = milliseconds{-1}})), "invalid_argument");
}

TEST_F(ConsumerTest, RetentionKeepsWhatIsYoung) {
  constexpr std::int64_t kDay = 86'400'000;
  disk_.set_now_ms(1000 * kDay);
  open();
  append_segments(2);  // of day 1000
  disk_.advance_ms(5 * kDay);
  append_segments(2);  // of day 1005
  disk_.advance_ms(5 * kDay);
  append(1);  // of day 1010
  auto& wal = open();
  const auto days = [](int count) {
    return RetentionPolicy{.max_age = std::chrono::hours{24 * count}};
  };
  EXPECT_EQ(ok(wal.apply_retention(days(11))), 0U);
  EXPECT_EQ(ok(wal.apply_retention(days(7))), 2U);
  EXPECT_EQ(ok(wal.apply_retention(days(6))), 0U);
  EXPECT_EQ(ok(wal.apply_retention(days(4))), 2U);
}

TEST_F(ConsumerTest, AClockThatJumpsDeletesNothing) {
  constexpr std::int64_t kDay = 86'400'000;
  disk_.set_now_ms(1000 * kDay);
  open();
  append_segments(3);
  const RetentionPolicy week{.max_age = std::chrono::hours{24 * 7}};
  disk_.advance_ms(365 * kDay);
  EXPECT_EQ(ok(wal_->apply_retention(week)), 0U);
  append_segments(1);  // stamped a year ahead
  EXPECT_EQ(ok(wal_->apply_retention(week)), 0U);
  disk_.advance_ms(-365 * kDay);
  append(1);
  EXPECT_EQ(ok(wal_->apply_retention(week)), 0U);
  disk_.advance_ms(-365 * kDay);
  auto& wal = open();
  EXPECT_EQ(ok(wal.apply_retention({.max_age = std::chrono::hours{24 * 366}})), 0U);
}

TEST_F(ConsumerTest, RetentionLeavesARunningReadWhatItNeeds) {
  auto& wal = open();
  append_segments(4);
  auto reader = ok(wal.read_from(Sequence{15}));
  ASSERT_TRUE(ok(reader.next()));
  const auto holds = wal.stats().holds;
  ASSERT_EQ(holds.size(), 1U);
  EXPECT_EQ(holds[0].what, "reader");
  EXPECT_EQ(holds[0].position.segment_id, 1U);
  EXPECT_EQ(ok(wal.apply_retention({.max_bytes = 1})), 1U);
  for (int i = 0; i < 6; ++i) {
    ASSERT_TRUE(ok(reader.next()));
  }
  EXPECT_EQ(ok(wal.apply_retention({.max_bytes = 1})), 1U) << "it went on to segment 2";
  EXPECT_EQ(ok(wal.delete_segments_before({.sequence = 40})), 2U) << "who asks for it gets it";
}

TEST_F(ConsumerTest, RetentionOnAFullDiskMakesRoom) {
  auto& wal = open();
  append_segments(3);
  disk_.set_capacity_bytes(kCapacityBytes - disk_.free_bytes());
  EXPECT_EQ(ok(wal.apply_retention({.max_bytes = 1})), 3U);
  ok(wal.append(Record::put("key", "value"), Durability::durable));
}

TEST_F(ConsumerTest, RetentionThatFailsDoesNotFailTheLog) {
  auto& wal = open();
  append_segments(3);
  disk_.fail_nth(On::remove, 1, EIO);
  EXPECT_EQ(code_of(wal.apply_retention({.max_bytes = 1})), "io");
  EXPECT_FALSE(wal.stats().failure);
  EXPECT_EQ(wal.stats().segments_deleted, 1U);
  append(1);
  EXPECT_EQ(ok(wal.apply_retention({.max_bytes = 1})), 2U);
}

}  // namespace
}  // namespace nori
