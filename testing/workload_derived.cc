// CheckedLog's consumers and snapshots.

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>
#include <vector>

#include "testing/workload.h"

namespace nori::testing {
namespace {

constexpr std::uint64_t kCapBytes = 100'000;

// "00000000000000001234.snapshot"
Sequence sequence_of(const std::string& snapshot_name) {
  Sequence sequence = 0;
  std::from_chars(snapshot_name.data(), snapshot_name.data() + snapshot_name.size(), sequence);
  return sequence;
}

}  // namespace

std::string consumer_name(std::uint64_t consumer) {
  return fmt::format("{}-{}", consumer < kCappedConsumers ? "consumer" : "capped", consumer);
}

template <typename T>
bool CheckedLog::tolerate(const Result<T>& answer) {
  if (!answer && !is_excused()) {
    complain("an error without a cause: " + answer.error().message);
  } else if (!answer && answer.error().code == ErrorCode::damaged) {
    complain("no data was damaged, but: " + answer.error().message);
  }
  return answer.has_value();
}

template <typename T>
bool CheckedLog::tolerate(const std::string& name, const Result<T>& answer) {
  if (!answer && answer.error().code == ErrorCode::gone && derived_.may_be_missing(name)) {
    complain(derived_.see(name, std::nullopt));
    consumers_.erase(name);
    return false;
  }
  return tolerate(answer);
}

CheckedLog::Place CheckedLog::place_of(const Step& step) const {
  const auto first = wal_->stats().first_sequence;
  const auto end = wal_->current_position().sequence;
  const auto sequence = std::max(first, end - std::min(end, step.back));
  ConsumerStart start = sequence;
  if (step.back == 0) {
    start = end_of_log;
  } else if (sequence == first) {
    start = begin_of_log;
  }
  return {.start = start, .sequence = sequence};
}

// --- consumers -----------------------------------------------------------------------------------

CheckedLog::OpenConsumer* CheckedLog::consumer_of(const Step& step) {
  const auto name = consumer_name(step.consumer);
  if (const auto open = consumers_.find(name); open != consumers_.end()) {
    return &open->second;
  }
  const auto [start, place] = place_of(step);
  const bool may_be_new = derived_.may_be_missing(name);
  if (may_be_new) {
    derived_.begin_move(name, place);
  }
  ConsumerOptions options{.from = start};
  if (step.consumer >= kCappedConsumers) {
    options.max_lag_bytes = kCapBytes;
    derived_.set_cap(name);
  }
  auto consumer = wal_->consumer(name, options);
  if (!tolerate(consumer)) {
    return nullptr;
  }
  const auto stands = consumer->committed().sequence;
  complain(derived_.see(name, stands));
  complain(reference_.acknowledge_durable(stands));
  return &consumers_.emplace(name, OpenConsumer{.consumer = *std::move(consumer), .next = stands})
              .first->second;
}

void CheckedLog::consume(const Step& step) {
  auto* const open = consumer_of(step);
  if (open == nullptr) {
    return;
  }
  const auto name = consumer_name(step.consumer);
  auto& [consumer, expected] = *open;
  const auto durable = wal_->durable_position().sequence;
  const auto first = wal_->stats().first_sequence;
  const auto committed = consumer.committed().sequence;
  // What was compacted away; and what was committed unread, where some of it was deleted.
  const auto skip_to = [&](Sequence sequence) {
    if (expected < first) {
      expected = std::max(expected, std::min(sequence, committed));
    }
    while (expected < sequence && (expected < first || reference_.may_be_gone(expected))) {
      ++expected;
    }
  };
  for (std::uint64_t i = 0; i < step.times; ++i) {
    const auto next = consumer.next();
    if (!tolerate(name, next)) {
      return;
    }
    if (!*next) {
      skip_to(durable);
      if (expected < durable) {
        complain(fmt::format("{} comes to an end before record {}, and those before {} are durable",
                             name, expected, durable));
      }
      break;
    }
    const auto entry = (*next)->copy();
    skip_to(entry.sequence);
    if (entry.sequence != expected) {
      complain(fmt::format("{} came to record {}, not {}", name, entry.sequence, expected));
    }
    complain(reference_.compare(entry));
    complain(reference_.acknowledge_durable(entry.sequence + 1));
    expected = entry.sequence + 1;
  }
  static_cast<void>(tolerate(name, consumer.commit(consumer.position())));
}

void CheckedLog::commit(const Step& step) {
  auto* const open = consumer_of(step);
  if (open == nullptr) {
    return;
  }
  const auto place = place_of(step).sequence;
  if (tolerate(consumer_name(step.consumer), open->consumer.commit({.sequence = place}))) {
    complain(reference_.acknowledge_durable(place));
  }
}

void CheckedLog::flush(const Step& step) {
  auto* const open = consumer_of(step);
  if (open == nullptr) {
    return;
  }
  const auto name = consumer_name(step.consumer);
  const auto place = open->consumer.committed().sequence;
  derived_.begin_move(name, place);
  if (tolerate(name, open->consumer.flush())) {
    derived_.end_move(name, place);
  }
}

void CheckedLog::seek(const Step& step) {
  auto* const open = consumer_of(step);
  if (open == nullptr) {
    return;
  }
  const auto name = consumer_name(step.consumer);
  const auto [start, place] = place_of(step);
  derived_.begin_move(name, place);
  if (!tolerate(name, open->consumer.seek(start))) {
    return;
  }
  derived_.end_move(name, place);
  if (open->consumer.committed().sequence != place) {
    complain(fmt::format("{} was moved to {}, and stands at {}", name, place,
                         open->consumer.committed().sequence));
  }
  open->next = place;
  complain(reference_.acknowledge_durable(place));
}

void CheckedLog::leave(const std::string& name) {
  const auto open = consumers_.find(name);
  if (open == consumers_.end()) {
    return;
  }
  auto consumer = std::move(open->second.consumer);
  consumers_.erase(open);
  const auto place = consumer.committed().sequence;
  derived_.begin_move(name, place);
  if (tolerate(name, consumer.close())) {
    derived_.end_move(name, place);
  }
}

void CheckedLog::drop(const std::string& name) {
  leave(name);
  const bool may_be_missing = derived_.may_be_missing(name);
  derived_.begin_move(name, std::nullopt);
  const auto dropped = wal_->drop_consumer(name);
  if (dropped) {
    derived_.end_move(name, std::nullopt);
  } else if (dropped.error().code == ErrorCode::gone && may_be_missing) {
    complain(derived_.see(name, std::nullopt));
  } else {
    static_cast<void>(tolerate(dropped));
  }
}

// --- snapshots -----------------------------------------------------------------------------------

void CheckedLog::give_up_snapshot() {
  snapshot_.reset();
  derived_.end_writing();
}

void CheckedLog::begin_snapshot(const Step& step) {
  give_up_snapshot();
  // To no other state than these the log behind it adds up.
  const auto at =
      std::max({place_of(step).sequence, reference_.complete_from(), derived_.newest_snapshot()});
  derived_.begin_writing(at);
  auto writer =
      SnapshotWriter::begin(*wal_, {.sequence = at},
                            {.block_bytes = kKiB, .retain = static_cast<std::uint32_t>(step.keep)});
  if (!writer) {
    give_up_snapshot();
    if (writer.error().code != ErrorCode::invalid_argument ||
        derived_.newest_possible_snapshot() <= at) {
      static_cast<void>(tolerate(writer));
    }
    return;
  }
  complain(reference_.acknowledge_durable(at));
  for (const auto& [key, sequence] : reference_.state_before(at)) {
    const auto& record = reference_.record(sequence);
    if (!tolerate(writer->add({.key = key,
                               .value = snapshot_value(record),
                               .sequence = sequence,
                               .expires_at = record.expires_at}))) {
      give_up_snapshot();
      return;
    }
  }
  snapshot_.emplace(OpenSnapshot{.writer = *std::move(writer), .at = at, .keep = step.keep});
}

void CheckedLog::finish_snapshot() {
  if (!snapshot_) {
    return;
  }
  derived_.begin_finish();
  const auto written = snapshot_->writer.finish();
  if (tolerate(written)) {
    if (written->file.sequence != snapshot_->at) {
      complain(fmt::format("a snapshot of {} was finished as one of {}", snapshot_->at,
                           written->file.sequence));
    }
    std::vector<Sequence> removed;
    for (const auto& name : written->removed) {
      removed.push_back(sequence_of(name));
    }
    complain(derived_.end_finish(snapshot_->keep, removed, !written->not_removed));
  }
  give_up_snapshot();
}

}  // namespace nori::testing
