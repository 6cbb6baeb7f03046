// Readers beside writers, in one process: in order, dense, exactly what was appended, whatever else
// goes on in the log. The thread sanitizer runs these.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "nori/wal.h"
#include "testing/is_sanitized.h"
#include "tests/readers/numbered_records.h"

namespace nori::readers_tests {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr std::uint64_t kSlowness = testing::kIsSanitized ? 8 : 1;
// Nothing here takes nearly as long, unless it hangs.
constexpr seconds kTooLong{30};

// A log in the build folder, with segments and a ring as small as can be.
class ReadersTest : public ::testing::Test {
 public:
  ~ReadersTest() override {
    wal_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(scratch_, ignored);
  }

 protected:
  ReadersTest() {
    scratch_ = std::filesystem::current_path() / fmt::format("readers-{}", ::getpid());
    std::filesystem::remove_all(scratch_);
    std::filesystem::create_directories(scratch_);
    options_.directory = scratch_ / "log";
    options_.segment_bytes = 64 * kKiB;
    options_.ring_bytes = 64 * kKiB;
    options_.fsync = FsyncPolicy::os();
  }
  void open() {
    wal_.reset();
    auto opened = Wal::open(options_);
    ASSERT_TRUE(opened) << opened.error().message;
    wal_.emplace(std::move(opened->wal));
  }
  Wal& wal() { return *wal_; }

  [[nodiscard]] std::uint64_t records_per_writer() const {
    const bool waits = options_.fsync.kind() == FsyncPolicy::Kind::always;
    return (waits ? 1500 : 15'000) / kSlowness;
  }

  // Starts a thread that appends until it has appended `records`, or it is time to stop.
  std::thread start_writer(std::uint64_t writer, std::uint64_t records) {
    return std::thread([this, writer, records] {
      NumberedWriter numbered(wal(), writer);
      while (numbered.records() < records && !stop_) {
        const auto appended = numbered.append();
        if (!appended) {
          give_up(fmt::format("append: {}", appended.error().message));
        }
      }
    });
  }

  // Starts a thread that does something again and again, until `done`.
  std::thread start_doing(milliseconds every, std::function<void()> something) {
    return std::thread([this, every, something = std::move(something)] {
      while (!done_ && !stop_) {
        something();
        std::this_thread::sleep_for(every);
      }
    });
  }

  // Reads until `end`, which may be set later. Returns what it saw.
  NumberedCheck read_all(Reader reader, const std::atomic<Sequence>& end,
                         const std::function<void(const Entry&)>& see = {}) {
    NumberedCheck check;
    read_on(reader, check, end, see);
    return check;
  }
  void read_on(Reader& reader, NumberedCheck& check, const std::atomic<Sequence>& end,
               const std::function<void(const Entry&)>& see = {}) {
    while (check.next_sequence() < end && !stop_) {
      const auto entry = reader.next();
      if (!entry) {
        return give_up("next: " + entry.error().message);
      }
      if (*entry) {
        if (const auto wrong = check.see(**entry); !wrong.empty()) {
          return give_up(wrong);
        }
        if (see) {
          see(**entry);
        }
        continue;
      }
      if (const auto more = reader.follow(milliseconds(10)); !more) {
        return give_up("follow: " + more.error().message);
      }
    }
  }

  Reader reader_from(ReadFrom from, ReadOptions options = {}) {
    auto reader = wal().read_from(from, options);
    if (!reader) {
      give_up("read_from: " + reader.error().message);
    }
    return *std::move(reader);
  }

  void give_up(const std::string& why) {
    if (!stop_.exchange(true)) {
      ADD_FAILURE() << why;
    }
  }
  template <typename T>
  void must(const Result<T>& result, std::string_view call) {
    if (!result) {
      give_up(fmt::format("{}: {}", call, result.error().message));
    }
  }

  // Joins; if that takes too long, all threads are told to stop first.
  void join(std::vector<std::thread>& threads) {
    std::atomic<bool> joined = false;
    std::thread watch([&] {
      const auto end = steady_clock::now() + kTooLong;
      while (!joined) {
        std::this_thread::sleep_for(milliseconds(5));
        if (steady_clock::now() > end) {
          give_up("it hangs");
          return;
        }
      }
    });
    for (auto& thread : threads) {
      thread.join();
    }
    threads.clear();
    joined = true;
    watch.join();
  }

  std::filesystem::path scratch_;
  WalOptions options_;
  std::optional<Wal> wal_;
  // The writers are; whoever works beside them may end.
  std::atomic<bool> done_ = false;
  // Something is wrong; all end.
  std::atomic<bool> stop_ = false;
};

// A way to write a log.
struct Case {
  const char* name;
  FsyncPolicy fsync = FsyncPolicy::os();
  std::uint64_t ring_bytes = 64 * kKiB;
  IoMode io = IoMode::automatic;
  friend void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }
};

class EveryLogReadersTest : public ReadersTest, public ::testing::WithParamInterface<Case> {
 protected:
  EveryLogReadersTest() {
    options_.fsync = GetParam().fsync;
    options_.ring_bytes = GetParam().ring_bytes;
    options_.io = GetParam().io;
  }
};

const std::array kCases = {
    Case{.name = "Os"},
    Case{.name = "OsNoRing", .ring_bytes = WalOptions::kNoRing},
    Case{.name = "OsBuffered", .io = IoMode::buffered},
    Case{.name = "Batch", .fsync = FsyncPolicy::batch(milliseconds(2))},
    Case{.name = "BatchNoRingBuffered",
         .fsync = FsyncPolicy::batch(milliseconds(2)),
         .ring_bytes = WalOptions::kNoRing,
         .io = IoMode::buffered},
    Case{.name = "Always", .fsync = FsyncPolicy::always()},
    Case{.name = "AlwaysNoRing", .fsync = FsyncPolicy::always(), .ring_bytes = WalOptions::kNoRing},
};
INSTANTIATE_TEST_SUITE_P(Readers, EveryLogReadersTest, ::testing::ValuesIn(kCases),
                         [](const auto& one) { return std::string(one.param.name); });

TEST_P(EveryLogReadersTest, FollowersSeeEverythingOnceAndInOrder) {
  constexpr std::uint64_t kWriters = 3;
  constexpr std::uint64_t kReaders = 3;
  ASSERT_NO_FATAL_FAILURE(open());
  std::atomic<Sequence> end = ~Sequence{0};
  std::array<NumberedCheck, kReaders> seen;

  std::vector<std::thread> readers;
  for (std::uint64_t i = 0; i < kReaders; ++i) {
    readers.emplace_back([&, i] { seen[i] = read_all(reader_from(begin_of_log), end); });
  }
  std::vector<std::thread> writers;
  for (std::uint64_t i = 0; i < kWriters; ++i) {
    writers.push_back(start_writer(i, records_per_writer()));
  }
  std::vector<std::thread> others;
  others.push_back(start_doing(milliseconds(3), [this] { must(wal().rotate(), "rotate"); }));
  join(writers);
  done_ = true;
  end = wal().current_position().sequence;
  join(readers);
  join(others);

  for (const auto& check : seen) {
    EXPECT_EQ(check.records(), end);
  }
  EXPECT_GE(end, kWriters * records_per_writer());
}

TEST_P(EveryLogReadersTest, ReadersThatBeginAnywhereSeeTheRest) {
  ASSERT_NO_FATAL_FAILURE(open());
  std::vector<std::thread> writers;
  writers.push_back(start_writer(0, records_per_writer()));
  writers.push_back(start_writer(1, records_per_writer()));
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&, i] {
      // Short-lived ones, at the end, at a sequence, at a time, until the writers are done.
      while (!done_ && !stop_) {
        const auto place = wal().current_position();
        ReadFrom from = place;
        Sequence first = place.sequence;
        if (i == 1) {
          first = place.sequence / 2;
          from = first;
        } else if (i == 2) {
          from = TimePoint::clock::now() - seconds(3600);
          first = 0;
        } else if (i == 3) {
          auto at = wal().position_at(TimePoint::clock::now() - milliseconds(5));
          must(at, "position_at");
          if (!at) {
            return;
          }
          from = *at;
          first = at->sequence;
        }
        const std::atomic<Sequence> until = wal().current_position().sequence;
        if (until <= first) {
          continue;  // nothing is sure to come
        }
        auto reader = reader_from(from);
        bool is_first = true;
        read_all(std::move(reader), until, [&](const Entry& entry) {
          if (std::exchange(is_first, false) && entry.sequence != first) {
            give_up(fmt::format("began at {} instead of {}", entry.sequence, first));
          }
        });
      }
    });
  }
  join(writers);
  done_ = true;
  join(readers);
}

TEST_P(EveryLogReadersTest, DeletionDisturbsNobodyWhoHasReadThatFar) {
  constexpr std::uint64_t kReaders = 3;
  ASSERT_NO_FATAL_FAILURE(open());
  std::atomic<Sequence> end = ~Sequence{0};
  std::array<std::atomic<Sequence>, kReaders> places{};
  std::array<NumberedCheck, kReaders> seen;

  std::vector<std::thread> readers;
  for (std::uint64_t i = 0; i < kReaders; ++i) {
    auto reader = reader_from(begin_of_log);
    readers.emplace_back([&, i, reader = std::move(reader)]() mutable {
      seen[i] = read_all(std::move(reader), end,
                         [&, i](const Entry& entry) { places[i] = entry.sequence; });
    });
  }
  std::uint64_t deleted = 0;
  std::vector<std::thread> others;
  others.push_back(start_doing(milliseconds(2), [&] {
    const Position slowest{.sequence =
                               std::min({places[0].load(), places[1].load(), places[2].load()})};
    const auto now_deleted = wal().delete_segments_before(slowest);
    must(now_deleted, "delete_segments_before");
    deleted += now_deleted.value_or(0);
  }));
  others.push_back(start_doing(milliseconds(5), [this] { must(wal().rotate(), "rotate"); }));
  std::vector<std::thread> writers;
  writers.push_back(start_writer(0, records_per_writer()));
  writers.push_back(start_writer(1, records_per_writer()));
  join(writers);
  end = wal().current_position().sequence;
  join(readers);
  done_ = true;
  join(others);

  for (const auto& check : seen) {
    EXPECT_EQ(check.records(), end);
  }
  EXPECT_GT(deleted, 0U);
}

TEST_P(EveryLogReadersTest, AReaderTheDeletionOvertakesIsToldSo) {
  ASSERT_NO_FATAL_FAILURE(open());
  std::atomic<Sequence> end = ~Sequence{0};
  std::vector<std::thread> writers;
  writers.push_back(start_writer(0, records_per_writer()));
  writers.push_back(start_writer(1, records_per_writer()));
  std::vector<std::thread> others;
  others.push_back(start_doing(milliseconds(1), [this] {
    must(wal().rotate(), "rotate");
    must(wal().delete_segments_before(wal().current_position()), "delete_segments_before");
  }));
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      NumberedCheck check;
      std::optional<Reader> reader;
      while (check.next_sequence() < end && !stop_) {
        if (!reader) {
          reader.emplace(reader_from(begin_of_log));
          check.may_jump();
        }
        const auto entry = reader->next();
        if (!entry) {
          if (entry.error().code != ErrorCode::gone) {
            return give_up("next: " + entry.error().message);
          }
          reader.reset();
        } else if (*entry) {
          if (const auto wrong = check.see(**entry); !wrong.empty()) {
            return give_up(wrong);
          }
        } else if (const auto more = reader->follow(milliseconds(1));
                   !more && more.error().code != ErrorCode::gone) {
          return give_up("follow: " + more.error().message);
        }
      }
    });
  }
  join(writers);
  done_ = true;
  join(others);
  // What the readers wait for is still there to read.
  NumberedWriter last(wal(), 9);
  must(last.append(), "append");
  end = wal().current_position().sequence;
  join(readers);
}

// Goal: no promise is broken by whatever else goes on.
// Method: everything at once, for a while; each thread checks what its calls promise.
TEST_P(EveryLogReadersTest, EverythingAtOnce) {
  ASSERT_NO_FATAL_FAILURE(open());
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      NumberedWriter numbered(wal(), i);
      for (std::uint64_t n = 0; !done_ && !stop_; ++n) {
        const bool durable = n % 64 == 0;
        const auto appended = numbered.append(durable ? Durability::durable : Durability::policy);
        must(appended, "append");
        if (!appended) {
          return;
        }
        if (durable && wal().durable_position() < appended->end) {
          give_up("a durable append returned too early");
        }
        if (wal().current_position() < appended->end) {
          give_up("current_position is behind an append that returned");
        }
        if (n % 100 == 50) {
          must(wal().wait_durable(appended->end), "wait_durable");
          if (wal().durable_position() < appended->end) {
            give_up("wait_durable returned too early");
          }
        }
      }
    });
  }
  threads.push_back(
      start_doing(milliseconds(0), [&, numbered = NumberedWriter(wal(), 2)]() mutable {
        const auto appended = numbered.try_append();
        if (!appended && appended.error().code != ErrorCode::busy) {
          give_up("try_append: " + appended.error().message);
        }
      }));
  threads.push_back(start_doing(milliseconds(1), [this] {
    const auto before = wal().current_position();
    must(wal().sync(), "sync");
    if (wal().durable_position() < before) {
      give_up("sync returned too early");
    }
  }));
  threads.push_back(start_doing(milliseconds(4), [this] { must(wal().rotate(), "rotate"); }));
  threads.push_back(start_doing(milliseconds(3), [this] {
    const auto end = wal().current_position().sequence;
    const Position place{.sequence = end - std::min<Sequence>(end, 4000)};
    must(wal().delete_segments_before(place), "delete_segments_before");
    if (wal().durable_position() < place) {
      give_up("deleted before it was durable");
    }
    if (wal().stats().first_sequence > place.sequence) {
      give_up("more was deleted than was asked for");
    }
  }));
  threads.push_back(start_doing(milliseconds(1), [this, before = WalStats{}]() mutable {
    const auto stats = wal().stats();
    if (stats.next_sequence < before.next_sequence ||
        stats.durable_sequence < before.durable_sequence ||
        stats.first_sequence < before.first_sequence ||
        stats.records_appended < before.records_appended) {
      give_up("stats go back");
    }
    if (stats.durable_sequence > stats.next_sequence ||
        stats.first_sequence > stats.next_sequence || stats.segments == 0) {
      give_up(fmt::format("stats contradict themselves: first {}, durable {}, next {}",
                          stats.first_sequence, stats.durable_sequence, stats.next_sequence));
    }
    if (stats.failure) {
      give_up("failed: " + stats.failure->message);
    }
    before = stats;
  }));
  threads.push_back(start_doing(milliseconds(1), [this] {
    const auto durable = wal().durable_position();
    const auto current = wal().current_position();
    if (current < durable) {
      give_up("durable_position is beyond current_position");
    }
    const auto beyond = wal().wait_durable({.sequence = current.sequence + (1ULL << 40)});
    if (beyond || beyond.error().code != ErrorCode::invalid_argument) {
      give_up("wait_durable of a place beyond the end");
    }
  }));
  threads.push_back(start_doing(milliseconds(1), [this] {
    const auto before = wal().current_position();
    const auto at = wal().position_at(TimePoint::clock::now() + seconds(3600));
    must(at, "position_at");
    if (at && *at < before) {
      give_up("position_at of a time to come is not the end");
    }
    must(wal().position_at(TimePoint{}), "position_at");
  }));
  // Two that follow; they begin anew when the deletion overtakes them.
  for (const auto visible : {Visible::appended, Visible::durable}) {
    threads.emplace_back([&, visible] {
      NumberedCheck check;
      std::optional<Reader> reader;
      while (!done_ && !stop_) {
        if (!reader) {
          reader.emplace(reader_from(begin_of_log, {.visible = visible}));
          check.may_jump();
        }
        const auto entry = reader->next();
        if (!entry) {
          if (entry.error().code != ErrorCode::gone) {
            return give_up("next: " + entry.error().message);
          }
          reader.reset();
        } else if (*entry) {
          if (visible == Visible::durable && wal().durable_position() < (*entry)->end) {
            return give_up("a record that is not durable was visible");
          }
          if (const auto wrong = check.see(**entry); !wrong.empty()) {
            return give_up(wrong);
          }
        } else if (const auto more = reader->follow(milliseconds(1));
                   !more && more.error().code != ErrorCode::gone) {
          return give_up("follow: " + more.error().message);
        }
      }
      EXPECT_GT(check.records(), 0U);
    });
  }
  std::this_thread::sleep_for(milliseconds(600));
  done_ = true;
  join(threads);
  const auto closed = wal().close();
  EXPECT_TRUE(closed) << closed.error().message;
}

TEST_P(EveryLogReadersTest, OnlyDurableRecordsAreVisibleToWhoAsksForThem) {
  ASSERT_NO_FATAL_FAILURE(open());
  std::atomic<Sequence> end = ~Sequence{0};
  std::vector<std::thread> writers;
  writers.push_back(start_writer(0, records_per_writer()));
  writers.push_back(start_writer(1, records_per_writer()));
  std::array<NumberedCheck, 2> seen;
  std::vector<std::thread> readers;
  for (auto& check : seen) {
    readers.emplace_back([&] {
      auto reader = reader_from(begin_of_log, {.visible = Visible::durable});
      check = read_all(std::move(reader), end, [this](const Entry& entry) {
        if (wal().durable_position() < entry.end) {
          give_up(fmt::format("{} is visible, but not durable", entry.sequence));
        }
      });
    });
  }
  std::vector<std::thread> others;
  others.push_back(start_doing(milliseconds(7), [this] { must(wal().sync(), "sync"); }));
  join(writers);
  must(wal().sync(), "sync");
  end = wal().current_position().sequence;
  join(readers);
  done_ = true;
  join(others);
  for (const auto& check : seen) {
    EXPECT_EQ(check.records(), end);
  }
}

TEST_F(ReadersTest, ADurableReaderWaitsForTheSync) {
  options_.segment_bytes = kMiB;
  options_.ring_bytes = kMiB;
  ASSERT_NO_FATAL_FAILURE(open());
  NumberedWriter numbered(wal(), 0);
  auto durable = reader_from(begin_of_log, {.visible = Visible::durable});
  auto appended = reader_from(begin_of_log);
  while (numbered.records() < 20) {
    ASSERT_TRUE(numbered.append());
  }
  // Under `os` nothing of that is durable by itself.
  ASSERT_EQ(wal().durable_position().sequence, 0U);
  const auto none = durable.follow(milliseconds(20));
  ASSERT_TRUE(none) << none.error().message;
  EXPECT_FALSE(*none);
  const auto nothing = durable.next();
  ASSERT_TRUE(nothing) << nothing.error().message;
  EXPECT_FALSE(nothing->has_value());
  const auto more = appended.follow(milliseconds(20));
  ASSERT_TRUE(more) << more.error().message;
  EXPECT_TRUE(*more);

  ASSERT_TRUE(wal().sync());
  const std::atomic<Sequence> end = numbered.records();
  EXPECT_EQ(read_all(std::move(durable), end).records(), end);
  EXPECT_EQ(read_all(std::move(appended), end).records(), end);
}

TEST_F(ReadersTest, FollowWaitsAndIsWoken) {
  ASSERT_NO_FATAL_FAILURE(open());
  NumberedWriter numbered(wal(), 0);
  auto reader = reader_from(begin_of_log);
  const auto started = steady_clock::now();
  const auto nothing = reader.follow(milliseconds(30));
  ASSERT_TRUE(nothing) << nothing.error().message;
  EXPECT_FALSE(*nothing);
  EXPECT_GE(steady_clock::now() - started, milliseconds(30));

  std::thread later([&] {
    std::this_thread::sleep_for(milliseconds(20));
    must(numbered.append(), "append");
  });
  const auto waiting = steady_clock::now();
  const auto more = reader.follow(kTooLong);
  EXPECT_LT(steady_clock::now() - waiting, kTooLong / 2);
  later.join();
  ASSERT_TRUE(more) << more.error().message;
  EXPECT_TRUE(*more);
  // It is no step: the record is still to come.
  const auto entry = reader.next();
  ASSERT_TRUE(entry) << entry.error().message;
  ASSERT_TRUE(entry->has_value());
  EXPECT_EQ((*entry)->sequence, 0U);
}

TEST_F(ReadersTest, ADeletedSegmentStaysReadableToWhoIsInIt) {
  ASSERT_NO_FATAL_FAILURE(open());
  NumberedWriter numbered(wal(), 0);
  // So many that the ring has forgotten the first ones.
  std::vector<Sequence> begins;
  for (int segment = 0; segment < 10; ++segment) {
    begins.push_back(wal().current_position().sequence);
    for (int i = 0; i < 120; ++i) {
      ASSERT_TRUE(numbered.append());
    }
    ASSERT_TRUE(wal().rotate());
  }
  ASSERT_EQ(wal().stats().segments, begins.size() + 1);
  const auto last = numbered.append();
  ASSERT_TRUE(last);

  NumberedCheck check;
  auto reader = reader_from(begin_of_log);
  const std::atomic<Sequence> one = 1;
  read_on(reader, check, one);
  const auto deleted = wal().delete_segments_before(wal().current_position());
  ASSERT_TRUE(deleted) << deleted.error().message;
  EXPECT_EQ(*deleted, begins.size());
  EXPECT_EQ(wal().stats().first_sequence, last->sequence);

  const std::atomic<Sequence> end_of_segment = begins[1];
  read_on(reader, check, end_of_segment);
  EXPECT_EQ(check.records(), begins[1]);
  const auto gone = reader.next();
  ASSERT_FALSE(gone) << "the next segment was deleted before the reader came to it";
  EXPECT_EQ(gone.error().code, ErrorCode::gone);

  const auto before_the_first = wal().read_from(Sequence{0});
  ASSERT_FALSE(before_the_first);
  EXPECT_EQ(before_the_first.error().code, ErrorCode::gone);
  EXPECT_NE(before_the_first.error().message.find(std::to_string(last->sequence)),
            std::string::npos)
      << "it names the first left: " << before_the_first.error().message;
  const std::atomic<Sequence> end = wal().current_position().sequence;
  NumberedCheck rest;
  auto again = reader_from(begin_of_log);
  read_on(again, rest, end);
  EXPECT_EQ(rest.records(), end - last->sequence);
}

TEST_F(ReadersTest, AReaderOutlivesItsWalAndGoesOnWithTheNextOne) {
  constexpr int kLives = 5;
  ASSERT_NO_FATAL_FAILURE(open());
  std::atomic<Sequence> end = ~Sequence{0};
  NumberedCheck seen;
  std::vector<std::thread> readers;
  readers.emplace_back([&, reader = reader_from(begin_of_log)]() mutable {
    seen = read_all(std::move(reader), end);
  });
  for (std::uint64_t life = 0; life < kLives && !stop_; ++life) {
    NumberedWriter numbered(wal(), life);
    while (numbered.records() < records_per_writer() / kLives && !stop_) {
      must(numbered.append(), "append");
    }
    const auto closed = wal().close();
    ASSERT_TRUE(closed) << closed.error().message;
    ASSERT_NO_FATAL_FAILURE(open());
  }
  end = wal().current_position().sequence;
  join(readers);
  EXPECT_EQ(seen.records(), end);
}

TEST_F(ReadersTest, TheRestCanBeReadAfterTheWalIsClosed) {
  ASSERT_NO_FATAL_FAILURE(open());
  NumberedWriter numbered(wal(), 0);
  while (numbered.records() < 3000) {
    ASSERT_TRUE(numbered.append());
  }
  auto reader = reader_from(begin_of_log);
  NumberedCheck check;
  const std::atomic<Sequence> some = 100;
  read_on(reader, check, some);
  ASSERT_TRUE(wal().close());
  wal_.reset();
  const std::atomic<Sequence> end = numbered.records();
  read_on(reader, check, end);
  EXPECT_EQ(check.records(), end);
  const auto more = reader.follow(milliseconds(5));
  ASSERT_TRUE(more) << more.error().message;
  EXPECT_FALSE(*more);
}

}  // namespace
}  // namespace nori::readers_tests
