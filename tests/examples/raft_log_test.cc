// What Raft libraries ask of their log storage, asked of examples/raft_log.h: the tests of
// hashicorp/raft's stores (first and last index, entries not found, ranges deleted from both ends,
// stable values), of etcd's Storage (terms, ranges, overlapping appends, compaction) and of
// OpenRaft's suite (votes, purges beyond the end, truncation, log state), in our words.
//
// All of it on the simulated disk; each test ends with a power cut that keeps nothing but what was
// promised, so that whatever a call returned for has to be there afterwards.

#include "examples/raft_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "testing/crash_points.h"
#include "testing/simulated_disk.h"

namespace raft {

void PrintTo(const EntryId& id, std::ostream* out) { *out << id.index << '/' << id.term; }
void PrintTo(const Entry& entry, std::ostream* out) {
  PrintTo(entry.id, out);
  *out << ':' << entry.data.size() << " bytes";
}
void PrintTo(const Vote& vote, std::ostream* out) { *out << vote.candidate << " in " << vote.term; }

namespace {

using nori::testing::SimulatedDisk;

nori::WalOptions options_on(SimulatedDisk& disk) {
  nori::WalOptions options;
  options.directory = "raft";
  options.file_system = &disk;
  options.fsync = nori::FsyncPolicy::os();
  options.segment_bytes = options.ring_bytes = 64 * nori::kKiB;
  options.background_thread = false;
  return options;
}

// A term for each entry, from `first` on.
std::vector<Entry> entries_of(Index first, const std::vector<Term>& terms,
                              std::size_t data_bytes = 1) {
  std::vector<Entry> entries;
  for (const auto term : terms) {
    entries.push_back({{first++, term}, std::string(data_bytes, static_cast<char>('a' + term))});
  }
  return entries;
}

// What a Raft log is, without a disk.
struct Model {
  EntryId compacted;
  std::vector<Entry> entries;
  Vote vote;

  [[nodiscard]] Index last() const { return compacted.index + entries.size(); }
  void cut(Index from) {
    entries.resize(std::min(entries.size(), static_cast<std::size_t>(from - compacted.index - 1)));
  }
  void append(const std::vector<Entry>& more) {
    cut(more.front().id.index);
    entries.insert(entries.end(), more.begin(), more.end());
  }
  void compact_to(const EntryId& through) {
    const auto count = through.index - compacted.index;
    const bool ours = count <= entries.size() && entries[count - 1].id == through;
    entries.erase(entries.begin(),
                  ours ? entries.begin() + static_cast<std::ptrdiff_t>(count) : entries.end());
    compacted = through;
  }
  friend bool operator==(const Model&, const Model&) = default;
};

// All that a log answers, as a model.
Model contents(const RaftLog& log) {
  Model model;
  model.compacted = {log.first_index() - 1, log.term(log.first_index() - 1).value().value()};
  model.entries = log.entries(log.first_index(), log.last_index() + 1).value();
  model.vote = log.vote();
  EXPECT_EQ(model.last(), log.last_index());
  for (const auto& entry : model.entries) {
    EXPECT_EQ(log.term(entry.id.index).value(), entry.id.term);
    EXPECT_EQ(log.get(entry.id.index).value(), entry);
  }
  return model;
}

class RaftLogTest : public ::testing::Test {
 protected:
  void SetUp() override { begin_anew(); }
  void TearDown() override { expect_to_last(); }

  void begin_anew() {
    log_.reset();
    disk_ = std::make_unique<SimulatedDisk>();
    open();
  }
  void expect_to_last() {
    const auto before = contents(*log_);
    power_cut();
    EXPECT_EQ(contents(*log_), before) << "after a power cut";
    ASSERT_TRUE(log_->close());
    open();
    EXPECT_EQ(contents(*log_), before) << "after a clean close";
  }

  void open() {
    log_.reset();
    auto opened = RaftLog::open(options_on(*disk_));
    ASSERT_TRUE(opened) << opened.error().message;
    log_.emplace(std::move(*opened));
  }
  void power_cut() {
    disk_->power_cut(7, {.survival = nori::testing::Survival::nothing});
    open();
  }
  void append(const std::vector<Entry>& entries) {
    const auto appended = log_->append(entries);
    ASSERT_TRUE(appended) << appended.error().message;
  }
  void compact_to(const EntryId& through) {
    const auto compacted = log_->compact_to(through);
    ASSERT_TRUE(compacted) << compacted.error().message;
  }
  std::vector<Entry> all() {
    return log_->entries(log_->first_index(), log_->last_index() + 1).value();
  }
  std::vector<Term> terms() {
    std::vector<Term> terms;
    for (const auto& entry : all()) {
      terms.push_back(entry.id.term);
    }
    return terms;
  }
  std::size_t segments() {
    const auto files = disk_->list_files("raft").value();
    return static_cast<std::size_t>(
        std::ranges::count_if(files, [](const auto& name) { return name.ends_with(".wal"); }));
  }
  static nori::ErrorCode code(const auto& result) {
    EXPECT_FALSE(result);
    return result ? nori::ErrorCode::io : result.error().code;
  }

  std::unique_ptr<SimulatedDisk> disk_;
  std::optional<RaftLog> log_;
};

TEST_F(RaftLogTest, AnEmptyLogHasNothing) {
  EXPECT_EQ(log_->first_index(), 1);
  EXPECT_EQ(log_->last_index(), 0);
  EXPECT_EQ(log_->term(0).value(), 0);
  EXPECT_EQ(log_->term(1).value(), std::nullopt);
  EXPECT_EQ(log_->get(1).value(), std::nullopt);
  EXPECT_EQ(log_->vote(), Vote{});
  EXPECT_TRUE(log_->append({}));
  EXPECT_TRUE(log_->delete_from(1));
  EXPECT_TRUE(log_->compact_to({}));
}

TEST_F(RaftLogTest, EntriesAreAsTheyWereAppended) {
  append(entries_of(1, {1}));
  append(entries_of(2, {1, 2, 2}));
  append({{{5, 3}, ""}, {{6, 3}, std::string(300 * nori::kKiB, 'x')}, {{7, 3}, {"\0\n", 2}}});
  EXPECT_EQ(log_->first_index(), 1);
  EXPECT_EQ(log_->last_index(), 7);
  EXPECT_EQ(terms(), (std::vector<Term>{1, 1, 2, 2, 3, 3, 3}));
  EXPECT_EQ(log_->get(5).value()->data, "");
  EXPECT_EQ(log_->get(6).value()->data, std::string(300 * nori::kKiB, 'x'));
  EXPECT_EQ(log_->get(7).value()->data, std::string("\0\n", 2));
}

TEST_F(RaftLogTest, WhatLiesOutsideIsGoneOrNotThereYet) {
  append(entries_of(1, {1, 1, 3, 4, 5}));
  compact_to({3, 3});
  EXPECT_EQ(log_->first_index(), 4);
  EXPECT_EQ(code(log_->term(2)), nori::ErrorCode::gone);
  EXPECT_EQ(log_->term(3).value(), 3);  // before the first, for the leader to match
  EXPECT_EQ(log_->term(4).value(), 4);
  EXPECT_EQ(log_->term(5).value(), 5);
  EXPECT_EQ(log_->term(6).value(), std::nullopt);
  EXPECT_EQ(code(log_->get(3)), nori::ErrorCode::gone);
  EXPECT_EQ(log_->get(6).value(), std::nullopt);
  EXPECT_EQ(code(log_->delete_from(3)), nori::ErrorCode::gone);
}

TEST_F(RaftLogTest, RangesEndWhereTheyAreTold) {
  append(entries_of(1, {1, 2, 3, 4, 5, 6}, 10));
  compact_to({3, 3});
  const auto expect_range = [&](Index begin, Index end, std::uint64_t bytes, std::size_t count) {
    const auto found = log_->entries(begin, end, bytes).value();
    ASSERT_EQ(found.size(), count) << begin << " to " << end << ", " << bytes << " bytes";
    for (std::size_t i = 0; i < count; ++i) {
      EXPECT_EQ(found[i], entries_of(begin + i, {begin + i}, 10).front());
    }
  };
  EXPECT_EQ(code(log_->entries(2, 6)), nori::ErrorCode::gone);
  EXPECT_EQ(code(log_->entries(3, 4)), nori::ErrorCode::gone);
  expect_range(4, 4, 1000, 0);
  expect_range(4, 5, 1000, 1);
  expect_range(4, 6, 1000, 2);
  expect_range(5, 7, 1000, 2);
  expect_range(4, 100, 1000, 3);
  expect_range(7, 100, 1000, 0);
  expect_range(4, 7, 0, 1);  // the first one always
  expect_range(4, 7, 19, 1);
  expect_range(4, 7, 20, 2);
  expect_range(4, 7, 30, 3);
}

// Each row on a log that was compacted to 3 and has 4 and 5, of terms 4 and 5.
TEST_F(RaftLogTest, AnAppendSupersedesWhatItOverlaps) {
  struct Row {
    Index first;
    std::vector<Term> appended;
    std::vector<Term> left;
  };
  const Row rows[] = {
      {1, {1, 2}, {4, 5}},           // compacted: nothing to do
      {1, {1, 2, 3}, {4, 5}},        // the same
      {3, {3, 4, 5}, {4, 5}},        // the same again
      {3, {3, 6, 6}, {6, 6}},        // another history behind what was compacted
      {3, {3, 4, 5, 5}, {4, 5, 5}},  // longer
      {2, {3, 3, 5}, {5}},           // shorter
      {4, {5}, {5}},                 // shorter, from the first on
      {5, {6}, {4, 6}},              // the last
      {6, {5, 6}, {4, 5, 5, 6}},     // behind the last
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(std::to_string(row.appended.size()) + " from " + std::to_string(row.first));
    begin_anew();
    append(entries_of(1, {1, 2, 3, 4, 5}));
    compact_to({3, 3});
    append(entries_of(row.first, row.appended));
    EXPECT_EQ(terms(), row.left);
    EXPECT_EQ(log_->last_index(), 3 + row.left.size());
    expect_to_last();
  }
}

TEST_F(RaftLogTest, AnAppendThatWouldLeaveAGapDoesNothing) {
  append(entries_of(1, {1, 1}));
  EXPECT_EQ(code(log_->append(entries_of(4, {1}))), nori::ErrorCode::invalid_argument);
  const Entry apart[] = {{{3, 1}, "a"}, {{5, 1}, "b"}};
  EXPECT_EQ(code(log_->append(apart)), nori::ErrorCode::invalid_argument);
  EXPECT_EQ(log_->last_index(), 2);
}

TEST_F(RaftLogTest, ASupersededSuffixNeverComesBack) {
  append(entries_of(1, {1, 1, 1, 1, 1, 1}));
  append(entries_of(3, {2}));
  EXPECT_EQ(terms(), (std::vector<Term>{1, 1, 2}));
  power_cut();
  append(entries_of(4, {2}));
  EXPECT_EQ(terms(), (std::vector<Term>{1, 1, 2, 2}));
  EXPECT_EQ(log_->get(5).value(), std::nullopt);
}

TEST_F(RaftLogTest, EntriesAreDeletedFromBothEnds) {
  append(entries_of(1, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}));
  ASSERT_TRUE(log_->delete_from(11));  // nothing there
  EXPECT_EQ(log_->last_index(), 10);
  ASSERT_TRUE(log_->delete_from(8));
  compact_to({3, 1});
  EXPECT_EQ(log_->first_index(), 4);
  EXPECT_EQ(log_->last_index(), 7);
  power_cut();
  EXPECT_EQ(log_->last_index(), 7);
  append(entries_of(8, {2}));
  EXPECT_EQ(terms(), (std::vector<Term>{1, 1, 1, 1, 2}));
  ASSERT_TRUE(log_->delete_from(4));  // all there are
  EXPECT_EQ(log_->last_index(), 3);
  EXPECT_EQ(log_->term(3).value(), 1);
  append(entries_of(4, {3}));
  EXPECT_EQ(terms(), (std::vector<Term>{3}));
}

TEST_F(RaftLogTest, CompactingTwiceIsCompactingOnce) {
  append(entries_of(1, {1, 1, 2, 2}));
  compact_to({3, 2});
  compact_to({3, 2});
  compact_to({1, 1});
  EXPECT_EQ(log_->first_index(), 4);
  EXPECT_EQ(log_->term(3).value(), 2);
}

TEST_F(RaftLogTest, ALogCompactedToItsLastGoesOnBehindIt) {
  append(entries_of(1, {1, 1, 2}));
  compact_to({3, 2});
  EXPECT_EQ(log_->first_index(), 4);
  EXPECT_EQ(log_->last_index(), 3);
  EXPECT_EQ(log_->term(3).value(), 2);
  append(entries_of(4, {2}));
  EXPECT_EQ(terms(), (std::vector<Term>{2}));
}

// A snapshot that a leader has sent.
TEST_F(RaftLogTest, ALogCompactedBeyondItsLastGoesOnBehindThat) {
  compact_to({20, 4});
  EXPECT_EQ(log_->first_index(), 21);
  EXPECT_EQ(log_->last_index(), 20);
  EXPECT_EQ(log_->term(20).value(), 4);
  append(entries_of(21, {4, 5}));
  compact_to({40, 6});
  EXPECT_EQ(log_->last_index(), 40);
  EXPECT_EQ(code(log_->append(entries_of(42, {6}))), nori::ErrorCode::invalid_argument);
  append(entries_of(41, {6}));
  EXPECT_EQ(log_->term(41).value(), 6);
}

TEST_F(RaftLogTest, WhatFollowsASnapshotStaysOnlyInItsHistory) {
  append(entries_of(1, {1, 1, 2, 2}));
  compact_to({2, 1});
  EXPECT_EQ(terms(), (std::vector<Term>{2, 2}));
  compact_to({3, 3});  // here it is of term 2
  EXPECT_EQ(terms(), (std::vector<Term>{}));
  EXPECT_EQ(log_->last_index(), 3);
}

TEST_F(RaftLogTest, AVoteIsKept) {
  ASSERT_TRUE(log_->save_vote({.term = 1, .candidate = 3}));
  append(entries_of(1, {1, 1}));
  ASSERT_TRUE(log_->save_vote({.term = 100, .candidate = 0}));
  compact_to({1, 1});
  power_cut();
  EXPECT_EQ(log_->vote(), (Vote{.term = 100, .candidate = 0}));
  ASSERT_TRUE(log_->save_vote({.term = 100, .candidate = 2}));
  EXPECT_EQ(terms(), (std::vector<Term>{1}));
}

TEST_F(RaftLogTest, CompactionGivesSpaceBack) {
  ASSERT_TRUE(log_->save_vote({.term = 1, .candidate = 3}));  // in the segment that goes first
  for (Index index = 1; index <= 60; ++index) {
    append(entries_of(index, {1}, 10'000));
  }
  EXPECT_GT(segments(), 8);
  compact_to({58, 1});
  EXPECT_LE(segments(), 2);
  EXPECT_EQ(log_->vote(), (Vote{.term = 1, .candidate = 3}));
  EXPECT_EQ(terms(), (std::vector<Term>{1, 1}));
  compact_to({60, 1});
  for (Index index = 61; index <= 120; ++index) {
    append(entries_of(index, {2}, 10'000));
  }
  // What the state says is needed as long as there is no newer one.
  compact_to({60, 1});
  EXPECT_GT(segments(), 8);
}

// The log's own compaction keeps the newest record of each key: of each index, and the state.
TEST_F(RaftLogTest, CompactionOfTheLogBelowChangesNothing) {
  append(entries_of(1, {1, 1, 1, 1, 1, 1, 1, 1}, 30'000));
  append(entries_of(5, {2}, 30'000));  // 6 to 8 have no newer record, and are superseded
  ASSERT_TRUE(log_->save_vote({.term = 2, .candidate = 1}));
  ASSERT_TRUE(log_->delete_from(3));
  append(entries_of(3, {3, 3}, 30'000));
  compact_to({1, 1});
  const auto before = contents(*log_);
  ASSERT_TRUE(log_->close());
  {
    auto below = nori::Wal::open(options_on(*disk_));
    ASSERT_TRUE(below) << below.error().message;
    ASSERT_TRUE(below->wal.rotate());
    const auto compacted = below->wal.compact();
    ASSERT_TRUE(compacted) << compacted.error().message;
    EXPECT_GT(compacted->records_before, compacted->records_after);
  }
  open();
  EXPECT_EQ(contents(*log_), before);
}

TEST_F(RaftLogTest, AFullDiskTakesNothingBack) {
  append(entries_of(1, {1, 1, 1, 1}, 1'000));
  disk_->writes_may_hit_no_space(true);
  // Written and not durable: the answer is no, and it stands where the log has it.
  EXPECT_EQ(code(log_->append(entries_of(3, {2}, 1'000))), nori::ErrorCode::no_space);
  disk_->writes_may_hit_no_space(false);
  EXPECT_EQ(log_->last_index(), 3);
  append(entries_of(4, {2, 2}, 1'000));
  EXPECT_EQ(terms(), (std::vector<Term>{1, 1, 2, 2, 2}));
}

TEST_F(RaftLogTest, AFailedFlushIsToldAndTheLogStopsUntilItIsOpenedAgain) {
  append(entries_of(1, {1, 1, 1}));
  using nori::testing::Operation;
  disk_->fail_nth({Operation::durable_write, Operation::sync}, 0, EIO);
  EXPECT_EQ(code(log_->append(entries_of(3, {2}))), nori::ErrorCode::io);
  EXPECT_EQ(disk_->faults_hit(), 1);
  EXPECT_EQ(terms(), (std::vector<Term>{1, 1, 2}));  // as the log has it, and a reader of it
  EXPECT_EQ(code(log_->save_vote({.term = 2, .candidate = 1})), nori::ErrorCode::io);
  disk_->crash_process();
  open();  // It may be there or not.
  EXPECT_TRUE(terms() == (std::vector<Term>{1, 1, 2}) || terms() == (std::vector<Term>{1, 1, 1}));
  append(entries_of(3, {3, 3}));
  EXPECT_EQ(terms(), (std::vector<Term>{1, 1, 3, 3}));
}

TEST_F(RaftLogTest, AnotherLogIsRefused) {
  using Records = std::vector<std::pair<std::string_view, std::string_view>>;
  const Records logs[] = {
      {{"user:7", "Ada"}},
      {{"state", "short"}},
      {{"1", "short"}},
      {{"2", "of term"}, {"2", "12345678"}},
      {{"2", "12345678"}},                     // where is 1?
      {{"1", "12345678"}, {"3", "12345678"}},  // where is 2?
  };
  for (const auto& records : logs) {
    begin_anew();
    ASSERT_TRUE(log_->close());
    {
      auto other = nori::Wal::open(options_on(*disk_));
      ASSERT_TRUE(other);
      for (const auto& [key, value] : records) {
        ASSERT_TRUE(other->wal.append(nori::Record::put(key, value)));
      }
    }
    EXPECT_FALSE(RaftLog::open(options_on(*disk_))) << records.front().first;
  }
  begin_anew();
}

// Goal: a log is what it was told before a crash, or with the call under way, wherever it happens.
// Method: a life of a log dies at every operation of its disk, in every form; what is found has to
// be what the model was after the last call that returned, or after the next one. Then the log has
// to take another entry.
struct Step {
  std::string_view what;
  Model after;
  std::function<nori::Result<void>(RaftLog&)> call;
};

std::vector<Step> life() {
  std::vector<Step> steps;
  Model model;
  const auto append = [&](Index first, const std::vector<Term>& terms, std::size_t bytes) {
    const auto entries = entries_of(first, terms, bytes);
    model.append(entries);
    steps.push_back({"append", model, [entries](RaftLog& log) { return log.append(entries); }});
  };
  const auto vote = [&](Term term, std::uint64_t candidate) {
    model.vote = {term, candidate};
    steps.push_back(
        {"vote", model, [vote = model.vote](RaftLog& log) { return log.save_vote(vote); }});
  };
  const auto delete_from = [&](Index from) {
    model.cut(from);
    steps.push_back({"delete", model, [from](RaftLog& log) { return log.delete_from(from); }});
  };
  const auto compact_to = [&](const EntryId& through) {
    model.compact_to(through);
    steps.push_back(
        {"compact", model, [through](RaftLog& log) { return log.compact_to(through); }});
  };
  vote(1, 2);
  append(1, {1, 1, 1}, 3'000);
  append(4, {1}, 30'000);
  append(3, {2, 2}, 30'000);  // a conflict
  vote(3, 0);
  delete_from(4);
  append(4, {3, 3}, 20'000);
  compact_to({2, 1});
  append(6, {3}, 40'000);
  append(6, {4, 4}, 10'000);  // a conflict
  compact_to({5, 3});         // segments go
  vote(4, 1);
  compact_to({9, 5});  // a snapshot from the leader: all of it goes
  append(10, {5, 5}, 100);
  return steps;
}

TEST(RaftLogCrashTest, EveryCrashLeavesTheLastCallOrTheNext) {
  const auto steps = life();
  std::uint64_t crashes = 0;
  nori::testing::for_each_crash_point(
      SimulatedDisk{},
      [&](SimulatedDisk& disk) {
        auto done = std::make_shared<std::size_t>(0);
        if (auto log = RaftLog::open(options_on(disk))) {
          while (*done < steps.size() && steps[*done].call(*log)) {
            ++*done;
          }
        }
        return done;
      },
      [&](const SimulatedDisk& dead, std::size_t done, std::uint64_t operations) {
        for (const auto& form : nori::testing::kCrashForms) {
          SCOPED_TRACE("operation " + std::to_string(operations) + ", " + std::string(form.name));
          const auto disk = nori::testing::crashed_copy(dead, form, operations);
          auto log = RaftLog::open(options_on(*disk));
          ASSERT_TRUE(log) << log.error().message;
          ++crashes;
          const auto found = contents(*log);
          const auto told = done == 0 ? Model{} : steps[done - 1].after;
          ASSERT_TRUE(found == told || (done < steps.size() && found == steps[done].after))
              << "in or after step " << done;
          ASSERT_TRUE(log->append(entries_of(log->last_index() + 1, {9})));
        }
      });
  EXPECT_GT(crashes, 500 / nori::testing::kCrashPointStride);
}

// Goal: whatever is asked in whatever order, it is a Raft log.
// Method: random calls, beside the model; now and then the power goes, or all is opened again.
TEST_F(RaftLogTest, ARandomHistoryIsAModels) {
  std::mt19937_64 random(42);
  const auto below = [&](std::uint64_t bound) { return random() % bound; };
  Model model;
  for (int i = 0; i < 2'000; ++i) {
    const auto first = model.compacted.index + 1;
    const auto size = model.entries.size();
    switch (below(10)) {
      default: {
        const auto from = below(3) == 0 ? first + below(size + 1) : model.last() + 1;
        const auto entries =
            entries_of(from, std::vector<Term>(1 + below(4), 1 + below(20)), below(2'000));
        append(entries);
        model.append(entries);
        break;
      }
      case 0:
        model.vote = {below(100), below(5)};
        ASSERT_TRUE(log_->save_vote(model.vote));
        break;
      case 1: {
        const auto from = first + below(size + 2);
        ASSERT_TRUE(log_->delete_from(from));
        model.cut(from);
        break;
      }
      case 2: {
        const auto through = below(4) > 0 && size > 0 ? model.entries[below(size)].id
                                                      : EntryId{first + below(size + 5), 50};
        compact_to(through);
        model.compact_to(through);
        break;
      }
      case 3:
        power_cut();
        break;
      case 4:
        ASSERT_TRUE(log_->close());
        open();
        break;
    }
    ASSERT_EQ(log_->last_index(), model.last()) << "call " << i;
    if (i % 16 == 0) {
      ASSERT_EQ(contents(*log_), model) << "call " << i;
    }
  }
  EXPECT_EQ(contents(*log_), model);
}

}  // namespace
}  // namespace raft
