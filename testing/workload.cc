#include "testing/workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "testing/random.h"

namespace nori::testing {
namespace {

// A life lasts seconds, also under a sanitizer.
constexpr std::chrono::minutes kClockGainMax{29};
constexpr std::chrono::milliseconds kClockStep{1};

}  // namespace

std::vector<OwnedRecord> make_records(std::uint64_t append_number, std::uint64_t records,
                                      std::uint64_t value_bytes) {
  std::vector<OwnedRecord> batch;
  for (std::uint64_t i = 0; i < records; ++i) {
    OwnedRecord record;
    record.key =
        fmt::format("{:08}/{:04}", value_bytes == 0 ? append_number : append_number % 8, i);
    Random random(append_number << 20 | i);
    if (append_number % 7 == 3 && records > 1 && i % 2 == 1) {
      record.op = nori::Operation::remove;
    } else {
      record.value.resize(value_bytes);
      for (auto& c : record.value) {
        c = static_cast<char>(random.next());
      }
    }
    if (i % 3 == 2 && record.op == nori::Operation::put) {
      record.expires_at =
          TimePoint(std::chrono::milliseconds(1'900'000'000'000 + random.below(1000)));
    }
    batch.push_back(std::move(record));
  }
  return batch;
}

CheckedLog::CheckedLog(SimulatedDisk& disk, WalOptions options, ReferenceLog reference,
                       DerivedModel derived)
    : disk_(disk),
      faults_before_(disk.faults_hit()),
      options_(std::move(options)),
      reference_(std::move(reference)),
      derived_(std::move(derived)) {
  options_.file_system = &disk;
  if (options_.directory.empty()) {
    options_.directory = "log";
  }
}

template <typename T>
bool CheckedLog::note(const Result<T>& answer) {
  if (answer) {
    return true;
  }
  error_ = answer.error();
  if (error_->code == ErrorCode::damaged) {
    complain("no data was damaged, but: " + error_->message);
  }
  return false;
}

void CheckedLog::complain(std::string problem) {
  if (problem_.empty()) {
    problem_ = std::move(problem);
  }
}

bool CheckedLog::is_excused() const { return disk_.dead() || disk_.faults_hit() != faults_before_; }

bool CheckedLog::run(const Script& script) {
  for (const auto& step : script) {
    if (!run(step)) {
      return false;
    }
  }
  return true;
}

bool CheckedLog::run(const Step& step) {
  bool done = true;
  switch (step.kind) {
    case Step::Kind::open:
      done = open_log();
      break;
    case Step::Kind::append:
    case Step::Kind::try_append:
      for (std::uint64_t i = 0; i < step.times && done; ++i) {
        done = append_once(step);
      }
      break;
    case Step::Kind::sync:
      done = note(wal_->sync());
      if (done) {
        reference_.acknowledge_all_durable();
      }
      break;
    case Step::Kind::wait_durable: {
      auto position = wal_->current_position();
      position.sequence = (reference_.durable_end() + position.sequence + 1) / 2;
      done = note(wal_->wait_durable(position));
      if (done) {
        complain(reference_.acknowledge_durable(position.sequence));
      }
      break;
    }
    case Step::Kind::rotate:
      done = note(wal_->rotate());
      break;
    case Step::Kind::delete_old:
      done = delete_segments();
      break;
    case Step::Kind::compact:
      done = compact_segments(step);
      break;
    case Step::Kind::read:
      done = read_back();
      break;
    case Step::Kind::follow:
      done = follow_on();
      break;
    case Step::Kind::consume:
      consume(step);
      break;
    case Step::Kind::commit:
      commit(step);
      break;
    case Step::Kind::flush:
      flush(step);
      break;
    case Step::Kind::seek:
      seek(step);
      break;
    case Step::Kind::leave:
      leave(consumer_name(step.consumer));
      break;
    case Step::Kind::drop:
      drop(consumer_name(step.consumer));
      break;
    case Step::Kind::begin_snapshot:
      begin_snapshot(step);
      break;
    case Step::Kind::finish_snapshot:
      finish_snapshot();
      break;
    case Step::Kind::retain:
      done = apply_retention(step);
      break;
    case Step::Kind::close:
      done = close_log();
      break;
  }
  if (wal_) {
    complain(reference_.acknowledge_durable(wal_->durable_position().sequence));
  }
  return done;
}

bool CheckedLog::close_log() {
  give_up_snapshot();
  const bool done = note(wal_->close());
  if (done) {
    reference_.acknowledge_all_durable();
  }
  follower_.reset();
  wal_.reset();
  while (!consumers_.empty()) {
    leave(std::string(consumers_.begin()->first));
  }
  return done;
}

bool CheckedLog::open_log() {
  follower_.reset();
  wal_.reset();
  auto opened = Wal::open(options_);
  if (!note(opened)) {
    return false;
  }
  was_opened_ = true;
  wal_.emplace(std::move(opened->wal));
  if (opened->recovery.created && reference_.durable_end() != 0) {
    complain("a log was created in place of one");
  }
  if (opened->recovery.next_sequence != reference_.appended_end()) {
    complain(fmt::format("the log ends at {}, and {} records were appended",
                         opened->recovery.next_sequence, reference_.appended_end()));
  }
  return true;
}

bool CheckedLog::append_once(const Step& step) {
  auto records = make_records(reference_.appends_begun(), step.records, step.value_bytes);
  reference_.begin_append(records);
  Result<Appended> appended;
  if (step.kind == Step::Kind::try_append) {
    appended = wal_->try_append(records.front().view(), step.durability);
    if (!appended && appended.error().code == ErrorCode::busy) {
      complain(reference_.end_append(appended));
      return true;
    }
  } else if (step.records == 1) {
    appended = wal_->append(records.front().view(), step.durability);
  } else {
    Batch batch;
    for (const auto& record : records) {
      batch.add(record.view());
    }
    appended = wal_->append(batch, step.durability);
  }
  complain(reference_.end_append(appended));
  if (!note(appended)) {
    return false;
  }
  if (step.durability == Durability::durable ||
      options_.fsync.kind() == FsyncPolicy::Kind::always) {
    complain(reference_.acknowledge_durable(appended->end.sequence));
  }
  return true;
}

template <typename Delete>
bool CheckedLog::delete_up_to(Sequence limit, Delete call) {
  derived_.begin_deletion();
  reference_.begin_delete(std::min(limit, derived_.needed_from()));
  if (!note(call())) {
    return false;
  }
  const auto first = wal_->stats().first_sequence;
  complain(reference_.end_delete(first));
  complain(reference_.acknowledge_durable(first));
  return true;
}

bool CheckedLog::delete_segments() {
  const auto position = wal_->current_position();
  follower_may_lose_ = true;
  return delete_up_to(position.sequence, [&] { return wal_->delete_segments_before(position); });
}

bool CheckedLog::apply_retention(const Step& step) {
  const RetentionPolicy policy{.max_age = std::chrono::milliseconds(step.max_age_ms),
                               .max_bytes = step.max_bytes};
  // The clock it goes by has come no further than the newest frame found, but for as long as this
  // life lasts, up to 24 times faster.
  const auto old = derived_.furthest_clock() + kClockGainMax - policy.max_age;
  if (TimePoint(std::chrono::milliseconds(disk_.now_ms())) >
      derived_.furthest_clock() + kClockGainMax) {
    std::this_thread::sleep_for(kClockStep);  // it follows a jump when it has run itself
  }
  const auto limit =
      policy.max_bytes != 0 ? reference_.appended_end() : reference_.first_since(old);
  return delete_up_to(limit, [&] { return wal_->apply_retention(policy); });
}

bool CheckedLog::compact_segments(const Step& step) {
  CompactionOptions options;
  if (step.keeps_all) {
    options.keep = CompactionOptions::Keep::all;
  } else {
    // What is left alone may hold what a tombstone hides.
    reference_.begin_compaction(derived_.passed_by_all(),
                                step.skip == 0 ? derived_.snapshots_from() : 0);
  }
  if (step.skip != 0) {
    options.from = Position{.sequence = wal_->stats().first_sequence + step.skip};
  }
  return note(wal_->compact(options));
}

bool CheckedLog::read_back() {
  const auto contents = read_all(*wal_);
  if (!note(contents)) {
    return false;
  }
  complain(reference_.compare(*contents, Crash::none));
  const auto& entries = contents->entries;
  return entries.empty() || !problem_.empty() ||
         find_again(entries[Random(reference_.appends_begun()).below(entries.size())]);
}

// A record is found by all its names.
bool CheckedLog::find_again(const OwnedEntry& entry) {
  const auto first_of = [&](ReadFrom from) -> Result<std::optional<Position>> {
    auto reader = wal_->read_from(from);
    if (!reader) {
      return std::unexpected(std::move(reader).error());
    }
    const auto next = reader->next();
    if (!next) {
      return std::unexpected(next.error());
    }
    return *next ? std::optional((*next)->position) : std::nullopt;
  };
  for (const ReadFrom& from : {ReadFrom{entry.position}, ReadFrom{entry.sequence}}) {
    const auto found = first_of(from);
    if (!note(found)) {
      return false;
    }
    if (*found != entry.position) {
      complain(fmt::format("record {} is not found where it is", entry.sequence));
    }
  }
  const auto at_time = first_of(entry.time);
  if (!note(at_time)) {
    return false;
  }
  if (!*at_time || (*at_time)->sequence > entry.sequence) {
    complain(fmt::format("record {} is not found by its time", entry.sequence));
  }
  return true;
}

bool CheckedLog::follow_on() {
  if (!follower_) {
    auto reader = wal_->read_from(begin_of_log);
    if (!note(reader)) {
      return false;
    }
    followed_ = wal_->stats().first_sequence;
    follower_may_lose_ = false;
    follower_.emplace(*std::move(reader));
  }
  for (;;) {
    const auto next = follower_->next();
    if (!next && next.error().code == ErrorCode::gone) {
      if (!follower_may_lose_) {
        complain("what the follower comes to was deleted by retention");
      }
      follower_.reset();
      return true;
    }
    if (!note(next)) {
      return false;
    }
    if (!*next) {
      break;
    }
    const auto entry = (*next)->copy();
    while (followed_ < entry.sequence && reference_.may_be_gone(followed_)) {
      ++followed_;
    }
    if (entry.sequence != followed_) {
      complain(fmt::format("the follower came to record {}, not {}", entry.sequence, followed_));
    }
    complain(reference_.compare(entry));
    followed_ = entry.sequence + 1;
  }
  while (reference_.may_be_gone(followed_)) {
    ++followed_;
  }
  if (followed_ != reference_.appended_end()) {
    complain(fmt::format("the follower ends at {}, and {} records were appended", followed_,
                         reference_.appended_end()));
  }
  return true;
}

void CheckedLog::check_stays_failed() {
  if (!wal_ || !wal_->stats().failure) {
    return;
  }
  const Record record = Record::put("behind", "a failure");
  if (wal_->append(record) || wal_->append(record, Durability::durable) ||
      wal_->try_append(record)) {
    complain("a log that has failed took an append");
  }
  if (wal_->sync()) {
    complain("a log that has failed answered that it was synced");
  }
  if (wal_->rotate()) {
    complain("a log that has failed rotated");
  }
  complain(reference_.acknowledge_durable(wal_->durable_position().sequence));
}

}  // namespace nori::testing
