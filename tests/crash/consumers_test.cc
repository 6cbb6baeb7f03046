// A crash at every step of what consumers and retention do, and again at every step of what comes
// next. Afterwards a cursor stands where it was last known to stand or where it was being moved to,
// never beyond the log's end, and the record it stands at is there.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "nori/consumer.h"
#include "nori/snapshot.h"
#include "nori/wal.h"
#include "testing/crash_points.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"

namespace nori::crash_tests {
namespace {

using namespace nori::testing;  // NOLINT: crash_points.h's words
using Operation = nori::testing::Operation;

constexpr std::uint64_t kRecordsPerSegment = 4;

// One thing done to a log and its consumers.
struct Act {
  enum class Kind : std::uint8_t {
    grow,
    take,
    commit,
    seek,
    leave,
    drop,
    erase,
    retain,
    snap,
    look,
    close
  };
  Kind kind = Kind::grow;
  std::string name = {};
  Sequence sequence = 0;
  std::uint64_t cap_bytes = 0;
};
Act grow() { return {.kind = Act::Kind::grow}; }
Act take(std::string name, Sequence from = 0, std::uint64_t cap = 0) {
  return {.kind = Act::Kind::take, .name = std::move(name), .sequence = from, .cap_bytes = cap};
}
Act commit(std::string name, Sequence to) {
  return {.kind = Act::Kind::commit, .name = std::move(name), .sequence = to};
}
Act seek(std::string name, Sequence to) {
  return {.kind = Act::Kind::seek, .name = std::move(name), .sequence = to};
}
Act leave(std::string name) { return {.kind = Act::Kind::leave, .name = std::move(name)}; }
Act drop(std::string name) { return {.kind = Act::Kind::drop, .name = std::move(name)}; }
Act erase(Sequence before) { return {.kind = Act::Kind::erase, .sequence = before}; }
Act retain() { return {.kind = Act::Kind::retain}; }
Act snap() { return {.kind = Act::Kind::snap}; }
// Asks for all that is told of consumers.
Act look() { return {.kind = Act::Kind::look}; }
Act close() { return {.kind = Act::Kind::close}; }

// Where each consumer may stand; nothing: there may be none of that name.
using Places = std::map<std::string, std::set<std::optional<Sequence>>>;

WalOptions options_on(SimulatedDisk& disk) {
  auto options = small_options();
  options.directory = "log";
  options.file_system = &disk;
  options.fsync = FsyncPolicy::os();
  return options;
}

// Does acts until one fails, as all do on a dead disk.
class ActingLog {
 public:
  ActingLog(SimulatedDisk& disk, Places places) : places_(std::move(places)) {
    auto opened = Wal::open(options_on(disk));
    if (opened) {
      wal_.emplace(std::move(opened->wal));
    }
  }

  void act(const std::vector<Act>& acts) {
    for (const auto& act : acts) {
      if (!wal_ || !done(act)) {
        return;
      }
    }
    finished_ = true;
  }

  [[nodiscard]] const Places& places() const { return places_; }
  [[nodiscard]] bool finished() const { return finished_; }

 private:
  bool done(const Act& act) {
    auto& places = places_[act.name];
    if (places.empty()) {
      places = {std::nullopt};
    }
    const auto settle = [&](bool ok, std::optional<Sequence> place) {
      places.insert(place);
      if (ok) {
        places = {place};
      }
      return ok;
    };
    switch (act.kind) {
      case Act::Kind::grow:
        for (std::uint64_t i = 0; i < kRecordsPerSegment; ++i) {
          if (!wal_->append(Record::put("key", std::string(100, 'v')))) {
            return false;
          }
        }
        return wal_->rotate().has_value();
      case Act::Kind::take: {
        ConsumerOptions options{.from = act.sequence};
        if (act.cap_bytes != 0) {
          options.max_lag_bytes = act.cap_bytes;
        }
        auto consumer = wal_->consumer(act.name, options);
        if (places.contains(std::nullopt)) {
          places.insert(act.sequence);
        }
        if (!consumer) {
          return false;
        }
        places = {consumer->committed().sequence};
        consumers_.emplace(act.name, *std::move(consumer));
        return true;
      }
      case Act::Kind::commit: {
        auto& consumer = consumers_.at(act.name);
        if (!consumer.commit({.sequence = act.sequence})) {
          return false;
        }
        const auto place = std::max(act.sequence, consumer.committed().sequence);
        places.insert(place);
        return settle(consumer.flush().has_value(), place);
      }
      case Act::Kind::seek:
        places.insert(act.sequence);
        return settle(consumers_.at(act.name).seek(act.sequence).has_value(), act.sequence);
      case Act::Kind::leave: {
        const bool closed = consumers_.at(act.name).close().has_value();
        consumers_.erase(act.name);
        return closed;
      }
      case Act::Kind::drop:
        return settle(wal_->drop_consumer(act.name).has_value(), std::nullopt);
      case Act::Kind::erase:
        return wal_->delete_segments_before({.sequence = act.sequence}).has_value();
      case Act::Kind::retain: {
        // Whoever has a cap may be dropped.
        for (auto& [name, allowed] : places_) {
          if (name.starts_with("capped")) {
            allowed.insert(std::nullopt);
          }
        }
        return wal_->apply_retention({.max_bytes = 1}).has_value();
      }
      case Act::Kind::snap: {
        auto snapshot = SnapshotWriter::begin(*wal_, wal_->current_position());
        return snapshot && snapshot->finish();
      }
      case Act::Kind::look:
        return wal_->consumers() && wal_->deletable_by({.max_bytes = 1}) &&
               std::ranges::all_of(consumers_,
                                   [](auto& one) { return one.second.lag().has_value(); });
      case Act::Kind::close:
        consumers_.clear();
        return wal_->close().has_value();
    }
    return false;
  }

  Places places_;
  std::optional<Wal> wal_;
  std::map<std::string, Consumer> consumers_;
  bool finished_ = false;
};

// What is wrong with what a crash left, or nothing. `places` becomes what was found.
std::string check(SimulatedDisk& disk, Places& places) {
  auto opened = Wal::open(options_on(disk));
  if (!opened) {
    return fmt::format("it does not open: {}", opened.error().message);
  }
  auto& wal = opened->wal;
  const auto infos = wal.consumers();
  if (!infos) {
    return infos.error().message;
  }
  std::map<std::string, Sequence> found;
  for (const auto& info : *infos) {
    if (info.unreadable) {
      return fmt::format("{} is unreadable: {}", info.name, info.unreadable->message);
    }
    found[info.name] = info.position.sequence;
  }
  for (auto& [name, allowed] : places) {
    if (name.empty()) {
      continue;
    }
    const auto place = found.contains(name) ? std::optional(found[name]) : std::nullopt;
    if (!allowed.contains(place)) {
      return fmt::format("{} stands at {}", name, place ? fmt::to_string(*place) : "no place");
    }
    allowed = {place};
    if (!place) {
      continue;
    }
    auto consumer = wal.consumer(name);
    if (!consumer) {
      return fmt::format("{} at {}: {}", name, *place, consumer.error().message);
    }
    const auto entry = consumer->next();
    if (!entry) {
      return fmt::format("{} at {}: {}", name, *place, entry.error().message);
    }
    const auto next = *entry ? (*entry)->sequence : wal.current_position().sequence;
    if (next != *place) {
      return fmt::format("{} stands at {} and reads {}", name, *place, next);
    }
  }
  return {};
}

struct Case {
  std::string name;
  std::vector<Act> before;
  std::vector<Act> acts;

  friend void PrintTo(const Case& test, std::ostream* to) { *to << test.name; }
};

const std::vector<Case>& cases() {
  static const std::vector<Case> cases{
      {"Creating", {grow(), grow(), grow()}, {take("one", 5), take("other", 0), grow()}},
      {"Committing",
       {grow(), grow(), take("one")},
       {take("one"), commit("one", 3), grow(), commit("one", 9), commit("one", 10), leave("one"),
        take("one"), close()}},
      {"SeekingBack",
       {grow(), grow(), grow(), take("one", 10)},
       {take("one"), seek("one", 2), erase(12), look(), commit("one", 6), erase(12), seek("one", 5),
        erase(12)}},
      {"Dropping",
       {grow(), grow(), grow(), take("one", 2), take("other", 5)},
       {drop("one"), erase(12), drop("other"), erase(12), take("one", 12), grow()}},
      {"Retaining",
       {grow(), grow(), grow(), grow(), snap(), take("one", 2), take("other", 9)},
       {take("one"), retain(), commit("one", 6), retain(), commit("one", 15), retain(), grow(),
        commit("one", 20), retain()}},
      {"Capped",
       {grow(), grow(), grow(), grow(), take("capped", 2, 1), take("other", 9)},
       {take("capped", 4, 1), commit("capped", 3), look(), retain(), grow(), retain()}},
  };
  return cases;
}

constexpr Operation kEveryOperation[] = {
    Operation::open,     Operation::read,   Operation::status, Operation::list,
    Operation::lock,     Operation::write,  Operation::sync,   Operation::create,
    Operation::truncate, Operation::rename, Operation::remove, Operation::directory_sync,
};

struct Start {
  std::unique_ptr<SimulatedDisk> disk;
  Places places;
};

Start start_of(const Case& test, std::uint64_t seed) {
  Start start{.disk = std::make_unique<SimulatedDisk>(seed), .places = {}};
  ActingLog run(*start.disk, {});
  run.act(test.before);
  EXPECT_TRUE(run.finished()) << test.name;
  start.places = run.places();
  start.disk->crash_process();
  return start;
}

class ConsumersCrashTest : public ::testing::TestWithParam<Case> {};

TEST_P(ConsumersCrashTest, ACursorIsWhereItWasOrWhereItWasMovedTo) {
  const auto& test = GetParam();
  const auto start = start_of(test, 5);
  bool finished = false;
  for_each_crash_point(
      *start.disk,
      [&](SimulatedDisk& disk) {
        auto run = std::make_unique<ActingLog>(disk, start.places);
        run->act(test.acts);
        return run;
      },
      [&](SimulatedDisk& disk, ActingLog& run, std::uint64_t operations) {
        finished = run.finished();
        for (const auto& form : kCrashForms) {
          const auto copy = crashed_copy(disk, form, 11 + operations);
          copy->crash_process();
          copy->set_tracing(true);
          auto places = run.places();
          ASSERT_EQ(check(*copy, places), "")
              << test.name << ": crash after " << operations << ", " << form.name << "\n"
              << trace_of(*copy);
        }
      });
  EXPECT_TRUE(finished) << "the last run has lived";
}

// Goal: a call that fails takes no place back, and nothing that a place needs.
// Method: each kind of failure, at each call, once and for good; then the process ends, or the
// power is cut.
TEST_P(ConsumersCrashTest, AFailedCallLeavesItWhereItWasOrWhereItWasMovedTo) {
  const auto& test = GetParam();
  const auto start = start_of(test, 7);
  for (const auto operation : kEveryOperation) {
    for (const auto repeat : {Repeat::once, Repeat::forever}) {
      for (std::uint64_t after = 0;; after += kCrashPointStride) {
        const auto where = [&] {
          return fmt::format("{}: {} {} fails{}", test.name, operation_name(operation), after,
                             repeat == Repeat::once ? "" : ", as do all behind it");
        };
        const auto disk = start.disk->clone();
        disk->fail_nth(operation, after, EIO, repeat, true);
        auto run = std::make_unique<ActingLog>(*disk, start.places);
        run->act(test.acts);
        const bool struck = disk->faults_hit() != 0;
        disk->clear_faults();
        const auto cut = crashed_copy(*disk, kPowerKeepsNothing, after);
        auto places = run->places();
        ASSERT_EQ(check(*cut, places), "") << where();
        places = run->places();
        const bool finished = run->finished();
        run.reset();
        ASSERT_EQ(check(*disk, places), "") << where();
        disk->crash_process();
        if (!struck) {
          EXPECT_TRUE(finished) << where();
          break;
        }
      }
    }
  }
}

// Goal: what a crash leaves half done harms nothing that comes next, though that dies too.
TEST_P(ConsumersCrashTest, TwiceInARow) {
  const auto& test = GetParam();
  const auto start = start_of(test, 6);
  const std::vector<Act> again{retain(),      take("again", 14), retain(), commit("again", 15),
                               drop("again"), retain(),          close()};
  for (std::uint64_t first = 0;; first += 3 * kCrashPointStride) {
    const auto disk = start.disk->clone();
    disk->crash_after(first);
    auto run = std::make_unique<ActingLog>(*disk, start.places);
    run->act(test.acts);
    const bool died = disk->dead();
    const auto& first_form = kCrashForms[first % std::size(kCrashForms)];
    const auto crashed = crashed_copy(*disk, first_form, first);
    crashed->crash_process();
    auto places = run->places();
    {
      const auto look = crashed->clone();
      auto found = places;
      ASSERT_EQ(check(*look, found), "") << test.name << ": crash after " << first;
      look->crash_process();
      if (first_form.crash == Crash::power) {
        places = found;  // else what is found may not be durable, and be what it was tomorrow
      }
    }
    disk->crash_process();
    for_each_crash_point(
        *crashed,
        [&](SimulatedDisk& again_disk) {
          auto second = std::make_unique<ActingLog>(again_disk, places);
          second->act(again);
          return second;
        },
        [&](SimulatedDisk& again_disk, ActingLog& second, std::uint64_t operations) {
          for (const auto& form : {kProcessCrash, kCrashForms[1 + (first + operations) % 6]}) {
            const auto copy = crashed_copy(again_disk, form, first + operations);
            copy->crash_process();
            auto left = second.places();
            ASSERT_EQ(check(*copy, left), "")
                << test.name << ": crash after " << first << ", " << first_form.name
                << "; then after " << operations << ", " << form.name;
          }
        });
    if (!died) {
      return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Every, ConsumersCrashTest, ::testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace nori::crash_tests
