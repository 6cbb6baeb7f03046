// A store beside an ordered map, through crashes, power cuts and faults.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nori/store.h"
#include "testing/random.h"
#include "testing/recovered_log.h"
#include "testing/simulated_disk.h"

namespace nori::model_tests {
namespace {

using testing::Operation;
using testing::Random;
using testing::SimulatedDisk;
using testing::Survival;

struct Value {
  std::string bytes;
  Sequence sequence = 0;
  std::optional<TimePoint> expires_at;

  friend bool operator==(const Value&, const Value&) = default;
};
using Model = std::map<std::string, Value>;

struct Change {
  std::string key;
  std::optional<Value> value;  // nothing: removed
};

// What was written in one call.
struct Write {
  std::vector<Change> changes;
  Sequence end = 0;  // behind its last record
};

// Up to so many lives of one store on one disk, drawn from a seed.
class Lives {
 public:
  explicit Lives(std::uint64_t seed)
      : random_(seed), disk_({.seed = seed, .sector_bytes = random_.coin() ? 512U : 4096U}) {
    options_.wal = testing::small_options();
    options_.wal.file_system = &disk_;
    options_.wal.fsync = random_.coin() ? FsyncPolicy::os() : FsyncPolicy::batch();
    if (random_.chance(64)) {
      options_.wal.ring_bytes = WalOptions::kNoRing;
    }
    if (random_.chance(64)) {
      options_.wal.io = IoMode::buffered;
    }
    options_.snapshots.block_bytes = kKiB << random_.below(4);
    options_.snapshots.retain = 1 + static_cast<std::uint32_t>(random_.below(3));
    options_.open_threads = 1 + static_cast<unsigned>(random_.below(3));
    disk_.set_now_ms(1'700'000'000'000);
  }

  // What is wrong, or nothing.
  std::string run(int lives) {
    for (int life = 0; life < lives; ++life) {
      if (auto wrong = live(); !wrong.empty()) {
        return fmt::format("life {}: {}", life, wrong);
      }
    }
    return {};
  }

  [[nodiscard]] std::uint64_t writes() const { return writes_done_; }

 private:
  std::string live() {
    if (random_.chance(80)) {
      disk_.crash_after(random_.below(80));  // within the recovery, or soon after
    }
    auto opened = Store::open(options_);
    if (opened) {
      store_.emplace(std::move(opened->store));
      if (auto wrong = compare(); !wrong.empty()) {
        return "opened: " + wrong;
      }
      adopt();
      if (auto wrong = act(); !wrong.empty()) {
        return wrong;
      }
    } else if (!disk_.dead()) {
      return "open: " + opened.error().message;
    }
    const bool power = random_.coin();
    if (disk_.dead() || ended_ || random_.chance(160)) {
      disk_.crash_process();
      store_.reset();
    } else {
      const auto closed = store_->close();
      store_.reset();
      if (!closed && !was_faulty_ && !disk_.dead()) {
        return "close: " + closed.error().message;
      }
      if (closed) {
        durable_end_ = writes_.empty() ? durable_end_ : writes_.back().end;
      }
      disk_.crash_process();
    }
    if (power) {
      constexpr Survival kSurvivals[] = {Survival::nothing, Survival::everything, Survival::random,
                                         Survival::random};
      disk_.power_cut(random_.next(), {.survival = kSurvivals[random_.below(4)],
                                       .torn_sectors = random_.coin(),
                                       .split_mapped_pages = random_.coin()});
    }
    returned_end_ = power ? durable_end_ : std::max(durable_end_, returned_end_);
    end_min_ = returned_end_;
    disk_.clear_faults();
    was_faulty_ = ended_ = false;
    return {};
  }

  // What is there is what some number of writes made: at least all that was promised.
  std::string compare() {
    const auto view = *store_->view();
    const auto end = view.sequence();
    if (end < end_min_) {
      return fmt::format("ends at record {}, and {} were promised", end, end_min_);
    }
    auto expected = base_;
    auto reached = base_end_;
    for (const auto& write : writes_) {
      if (write.end > end) {
        break;
      }
      apply(expected, write);
      reached = write.end;
    }
    if (reached != end) {
      return fmt::format("ends at record {}, within a write or behind all; the last ends at {}",
                         end, reached);
    }
    auto scan = view.scan();
    const auto now = TimePoint{std::chrono::milliseconds{disk_.now_ms()}};
    for (const auto& [key, value] : expected) {
      if (value.expires_at && *value.expires_at <= now) {
        if (view.get(key)) {
          return fmt::format("\"{}\" has expired, and is there", key);
        }
        continue;
      }
      const auto entry = scan.next();
      if (!entry) {
        return fmt::format("\"{}\" is missing, and all behind it", key);
      }
      if (entry->key != key) {
        return fmt::format("\"{}\" is there, and \"{}\" should be", entry->key, key);
      }
      if (Value{std::string(entry->value), entry->version.sequence, entry->expires_at} != value) {
        return fmt::format("\"{}\" is of record {}, and {} wrote it last", key,
                           entry->version.sequence, value.sequence);
      }
    }
    if (const auto more = scan.next(); more) {
      return fmt::format("\"{}\" is there, and should not be", more->key);
    }
    expected_ = std::move(expected);
    return {};
  }

  // What was found is where it goes on.
  void adopt() {
    base_ = std::move(expected_);
    base_end_ = store_->view()->sequence();
    durable_end_ = returned_end_ = base_end_;
    writes_.clear();
  }

  static void apply(Model& model, const Write& write) {
    for (const auto& change : write.changes) {
      if (change.value) {
        model[change.key] = *change.value;
      } else {
        model.erase(change.key);
      }
    }
  }

  std::string act() {
    if (random_.chance(128)) {
      disk_.crash_after(random_.below(200));
    } else if (random_.chance(48)) {
      was_faulty_ = true;
      constexpr Operation kKinds[] = {Operation::write, Operation::durable_write, Operation::sync,
                                      Operation::directory_sync, Operation::rename};
      disk_.fail_nth(kKinds[random_.below(5)], random_.below(12), random_.coin() ? EIO : ENOSPC);
    }
    for (auto steps = random_.below(60); steps > 0; --steps) {
      if (auto wrong = step(); !wrong.empty()) {
        return wrong;
      }
      if (disk_.dead() || ended_) {
        return {};  // the last write may be there or not
      }
    }
    return was_faulty_ ? std::string{} : compare_live();
  }

  std::string compare_live() {
    const auto end = store_->view()->sequence();
    if (const auto all = writes_.empty() ? base_end_ : writes_.back().end; end != all) {
      return fmt::format("ends at record {}, and {} were written", end, all);
    }
    end_min_ = 0;
    return compare();
  }

  std::string step() {
    const auto what = random_.below(100);
    if (what < 55) {
      return write({change()});
    }
    if (what < 75) {
      std::vector<Change> changes;
      for (auto count = 1 + random_.below(6); count > 0; --count) {
        changes.push_back(change());
      }
      return write(std::move(changes));
    }
    if (what < 80) {
      const auto all = current_end();
      if (store_->sync()) {
        durable_end_ = std::max(durable_end_, all);
      }
      return {};
    }
    if (what < 85) {
      disk_.advance_ms(static_cast<std::int64_t>(random_.below(2000)));
      return {};
    }
    if (what < 90) {
      return compare_and_set();
    }
    if (what < 93) {
      const auto report = random_.coin() ? store_->checkpoint() : store_->compact();
      if (report) {
        durable_end_ = std::max(durable_end_, report->sequence);
      }
      return report || disk_.dead() || was_faulty_ ? std::string{}
                                                   : "checkpoint: " + report.error().message;
    }
    return get();
  }

  std::string key() { return fmt::format("key/{}", random_.below(120)); }
  [[nodiscard]] Sequence current_end() const {
    return writes_.empty() ? base_end_ : writes_.back().end;
  }

  Change change() {
    Change made{.key = key(), .value = std::nullopt};
    if (!random_.chance(70)) {
      made.value.emplace();
      made.value->bytes = std::string(random_.below(random_.chance(20) ? 20'000 : 200), 'v') +
                          std::to_string(random_.below(1000));
      if (random_.chance(50)) {
        made.value->expires_at = TimePoint{std::chrono::milliseconds{
            disk_.now_ms() + static_cast<std::uint64_t>(random_.below(5000))}};
      }
    }
    return made;
  }

  std::string write(std::vector<Change> changes) {
    const auto durability = random_.chance(30) ? Durability::durable : Durability::policy;
    const auto first = current_end();
    Write made{.changes = std::move(changes), .end = first};
    Batch batch;
    for (auto& change : made.changes) {
      if (change.value) {
        change.value->sequence = made.end;
        auto record = Record::put(change.key, change.value->bytes);
        record.expires_at = change.value->expires_at;
        batch.add(record);
      } else {
        batch.remove(change.key);
      }
      ++made.end;
    }
    const auto& one = made.changes.front();
    const auto written =
        made.changes.size() > 1 ? store_->write(batch, durability)
        : one.value             ? store_->put(one.key, one.value->bytes,
                                              {.expires_at = one.value->expires_at, .durability = durability})
                                : store_->remove(one.key, {.durability = durability});
    return note(std::move(made), written, durability);
  }

  std::string note(Write made, const Result<Written>& written, Durability durability) {
    ++writes_done_;
    if (written) {
      if (written->end.sequence != made.end) {
        return fmt::format("a write ended at record {}, not {}", written->end.sequence, made.end);
      }
      returned_end_ = made.end;
      if (durability == Durability::durable) {
        durable_end_ = made.end;
      }
      writes_.push_back(std::move(made));
      return {};
    }
    if (!disk_.dead() && !was_faulty_) {
      return "write: " + written.error().message;
    }
    if (written.error().position || written.error().code == ErrorCode::io) {
      // With a position it is there, with `io` perhaps: then nothing can follow it.
      if (writes_.empty() || writes_.back().end < made.end) {
        writes_.push_back(std::move(made));
      }
      if (written.error().position) {
        returned_end_ = writes_.back().end;
      }
    }
    ended_ = true;
    return {};
  }

  std::string compare_and_set() {
    const auto which = key();
    const auto found = store_->get(which);
    if (!found) {
      return disk_.dead() ? std::string{} : "get: " + found.error().message;
    }
    const auto version = *found ? std::optional((*found)->version()) : std::nullopt;
    auto wrong_version = version.value_or(Version{.epoch = {}, .sequence = 77});
    wrong_version.epoch.bits += 1;
    const auto refused = store_->compare_and_set(which, wrong_version, "never");
    if (!refused || *refused) {
      return refused ? "a wrong version was taken" : "compare: " + refused.error().message;
    }
    Write made{.changes = {{.key = which, .value = Value{"set", current_end(), std::nullopt}}},
               .end = current_end() + 1};
    const auto set = store_->compare_and_set(which, version, "set");
    if (set && !*set) {
      return "the right version was refused";
    }
    return note(std::move(made), set ? Result<Written>(**set) : std::unexpected(set.error()),
                Durability::policy);
  }

  std::string get() {
    const auto which = key();
    const auto found = store_->get(which);
    if (!found) {
      return "get: " + found.error().message;
    }
    Value expected;
    bool is_there = false;
    if (const auto at = base_.find(which); at != base_.end()) {
      expected = at->second;
      is_there = true;
    }
    for (const auto& write : writes_) {
      for (const auto& change : write.changes) {
        if (change.key == which) {
          is_there = change.value.has_value();
          expected = change.value.value_or(Value{});
        }
      }
    }
    is_there =
        is_there && !(expected.expires_at &&
                      *expected.expires_at <= TimePoint{std::chrono::milliseconds{disk_.now_ms()}});
    if (is_there != found->has_value() || (is_there && (*found)->value() != expected.bytes)) {
      return fmt::format("get \"{}\" finds {}", which, found->has_value() ? "another" : "nothing");
    }
    return {};
  }

  Random random_;
  SimulatedDisk disk_;
  StoreOptions options_;
  std::optional<Store> store_;

  Model base_;  // what the last opening found
  Sequence base_end_ = 0;
  std::vector<Write> writes_;  // since
  Sequence returned_end_ = 0;
  Sequence durable_end_ = 0;
  Sequence end_min_ = 0;  // what the last crash must have left
  Model expected_;
  bool was_faulty_ = false;
  bool ended_ = false;  // a write failed: what the log goes on with is unknown
  std::uint64_t writes_done_ = 0;
};

class StoreModelTest : public ::testing::TestWithParam<std::uint64_t> {};

// More with NORI_MODEL_SEEDS=N: so many times as many seeds.
TEST_P(StoreModelTest, IsAnOrderedMapWhateverHappens) {
  const auto* const more = std::getenv("NORI_MODEL_SEEDS");
  const std::uint64_t seeds = more != nullptr ? std::strtoull(more, nullptr, 10) : 1;
  std::uint64_t writes = 0;
  for (std::uint64_t i = 0; i < 20 * seeds; ++i) {
    const auto seed = GetParam() * 1'000'000 + i;
    Lives lives(seed);
    const auto wrong = lives.run(12);
    ASSERT_EQ(wrong, "") << "seed " << seed;
    writes += lives.writes();
  }
  RecordProperty("writes", std::to_string(writes));
}

INSTANTIATE_TEST_SUITE_P(Seeds, StoreModelTest, ::testing::Range<std::uint64_t>(1, 6));

}  // namespace
}  // namespace nori::model_tests
