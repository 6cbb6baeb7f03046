#include "testing/workload.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "testing/random.h"

namespace nori::testing {

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

CheckedLog::CheckedLog(SimulatedDisk& disk, WalOptions options, ReferenceLog reference)
    : options_(std::move(options)), reference_(std::move(reference)) {
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
      done = compact_segments();
      break;
    case Step::Kind::read:
      done = read_back();
      break;
    case Step::Kind::follow:
      done = follow_on();
      break;
    case Step::Kind::close:
      done = note(wal_->close());
      if (done) {
        reference_.acknowledge_all_durable();
      }
      follower_.reset();
      wal_.reset();
      break;
  }
  if (wal_) {
    complain(reference_.acknowledge_durable(wal_->durable_position().sequence));
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

bool CheckedLog::delete_segments() {
  const auto position = wal_->current_position();
  reference_.begin_delete(position.sequence);
  if (!note(wal_->delete_segments_before(position))) {
    return false;
  }
  complain(reference_.end_delete(wal_->stats().first_sequence));
  return true;
}

bool CheckedLog::compact_segments() {
  reference_.begin_compaction();
  return note(wal_->compact());
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
    follower_.emplace(*std::move(reader));
  }
  for (;;) {
    const auto next = follower_->next();
    if (!next && next.error().code == ErrorCode::gone) {
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
