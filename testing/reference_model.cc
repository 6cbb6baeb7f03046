#include "testing/reference_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/try.h"

namespace nori::testing {

Result<LogContents> read_all(const Wal& wal) {
  LogContents contents;
  contents.next_sequence = wal.current_position().sequence;
  auto reader = NORI_TRY(wal.read_from(begin_of_log));
  for (;;) {
    const auto entry = NORI_TRY(reader.next());
    if (!entry) {
      return contents;
    }
    contents.entries.push_back(entry->copy());
  }
}

void ReferenceLog::begin_append(std::vector<OwnedRecord> batch) {
  ++appends_begun_;
  pending_.clear();
  for (auto& record : batch) {
    pending_.push_back({.record = std::move(record)});
  }
  pending_.back().ends_batch = true;
}

std::string ReferenceLog::end_append(const Result<Appended>& answer) {
  const auto first = appended_end();
  const auto end = first + pending_.size();
  if (answer) {
    if (answer->sequence != first || answer->position.sequence != first ||
        answer->end.sequence != end) {
      return fmt::format("records [{}, {}) were appended as [{}, {})", first, end, answer->sequence,
                         answer->end.sequence);
    }
  } else if (answer.error().code == ErrorCode::io) {
    return {};  // whether it survives is unknown
  } else if (!answer.error().position) {
    pending_.clear();
    return {};
  } else if (answer.error().position->sequence != first) {
    return fmt::format("records [{}, {}) were appended at {}, and are not durable", first, end,
                       answer.error().position->sequence);
  }
  std::ranges::move(pending_, std::back_inserter(records_));
  pending_.clear();
  return {};
}

std::string ReferenceLog::acknowledge_durable(Sequence end) {
  durable_end_ = std::max(durable_end_, end);
  // A pending append may be there already.
  if (end > appended_end() + pending_.size()) {
    return fmt::format("records before {} are said to be durable, and {} were appended", end,
                       appended_end());
  }
  return {};
}

void ReferenceLog::begin_delete(Sequence position) { first_max_ = std::max(first_max_, position); }

std::string ReferenceLog::end_delete(Sequence first) {
  if (first < first_min_ || (first > first_max_ && !check_gone(first_max_, first).empty())) {
    return fmt::format("the log begins at record {}, not in [{}, {}]", first, first_min_,
                       first_max_);
  }
  first_min_ = first_max_ = first;
  return {};
}

void ReferenceLog::begin_compaction(Sequence end, Sequence tombstones_end) {
  std::unordered_set<std::string_view> newer;
  for (auto sequence = std::min(end, appended_end()); sequence-- > 0;) {
    auto& kept = records_[sequence];
    if (!newer.insert(kept.record.key).second) {
      kept.may_be_gone = true;
    } else if (kept.record.op == nori::Operation::remove && sequence < tombstones_end) {
      kept.may_be_gone = true;
      tombstones_gone_end_ = std::max(tombstones_gone_end_, sequence + 1);
    }
  }
}

std::map<std::string_view, Sequence> ReferenceLog::state_before(Sequence end) const {
  std::map<std::string_view, Sequence> state;
  for (Sequence sequence = 0; sequence < end; ++sequence) {
    const auto& record = at(sequence)->record;
    if (record.op == nori::Operation::remove) {
      state.erase(record.key);
    } else {
      state[record.key] = sequence;
    }
  }
  return state;
}

Sequence ReferenceLog::first_since(TimePoint time) const noexcept {
  const auto is_older = [&](const Kept& kept) { return kept.time && *kept.time < time; };
  const auto found = std::ranges::find_if(records_.rbegin(), records_.rend(), is_older);
  return static_cast<Sequence>(std::distance(found, records_.rend()));
}

std::string ReferenceLog::check_gone(Sequence first, Sequence end) const {
  for (auto sequence = first; sequence < end; ++sequence) {
    if (!may_be_gone(sequence)) {
      return fmt::format("record {} is missing", sequence);
    }
  }
  return {};
}

const ReferenceLog::Kept* ReferenceLog::at(Sequence sequence) const noexcept {
  if (sequence < records_.size()) {
    return &records_[sequence];
  }
  sequence -= records_.size();
  return sequence < pending_.size() ? &pending_[sequence] : nullptr;
}

std::string ReferenceLog::compare(const LogContents& found, Crash crash) const {
  const auto& entries = found.entries;
  const auto end = found.next_sequence;
  const auto end_min = crash == Crash::power ? durable_end_ : appended_end();
  if (end < end_min) {
    return fmt::format("record {} is missing: the log ends at {}", end_min - 1, end);
  }
  if (end > appended_end() + pending_.size()) {
    return fmt::format("the log ends at {}, and {} records were appended", end,
                       appended_end() + pending_.size());
  }
  if (end != 0 && !at(end - 1)->ends_batch) {
    return fmt::format("the log ends at {}, within a batch", end);
  }
  const auto first = entries.empty() ? end : entries.front().sequence;
  if (first < first_min_ || (first > first_max_ && !check_gone(first_max_, first).empty())) {
    return fmt::format("the log begins at record {}, not in [{}, {}]", first, first_min_,
                       first_max_);
  }
  if (auto wrong = check_gone(entries.empty() ? end : entries.back().sequence + 1, end);
      !wrong.empty()) {
    return wrong;
  }
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const auto& entry = entries[i];
    if (auto wrong = compare(entry); !wrong.empty()) {
      return wrong;
    }
    if (i == 0) {
      continue;
    }
    const auto& before = entries[i - 1];
    if (entry.sequence <= before.sequence) {
      return fmt::format("record {} follows record {}", entry.sequence, before.sequence);
    }
    if (auto wrong = check_gone(before.sequence + 1, entry.sequence); !wrong.empty()) {
      return wrong;
    }
    if (entry.epoch != before.epoch && entry.epoch.number() <= before.epoch.number()) {
      return fmt::format("record {} is of epoch {:x}, behind {:x}", entry.sequence,
                         entry.epoch.bits, before.epoch.bits);
    }
    if (entry.time < before.time) {
      return fmt::format("record {} is older than the one before", entry.sequence);
    }
  }
  return check_newest(found);
}

// Of a key with a record left the newest is among them: else a value comes back.
std::string ReferenceLog::check_newest(const LogContents& found) const {
  std::unordered_map<std::string_view, Sequence> newest;
  for (const auto& entry : found.entries) {
    newest[entry.key] = entry.sequence;
  }
  std::unordered_set<std::string_view> seen;
  for (auto sequence = found.next_sequence; sequence-- > 0 && seen.size() < newest.size();) {
    const std::string_view key = at(sequence)->record.key;
    const auto left = newest.find(key);
    if (left != newest.end() && seen.insert(key).second && left->second != sequence) {
      return fmt::format("record {} is gone, and record {} of the same key is not", sequence,
                         left->second);
    }
  }
  return {};
}

bool ReferenceLog::is_entry(const OwnedEntry& entry, const Kept& kept) {
  const auto& record = kept.record;
  return entry.op == record.op && entry.key == record.key && entry.value == record.value &&
         entry.expires_at == record.expires_at;
}

// A batch ends with its last record, or the last one left.
bool ReferenceLog::may_end_batch(Sequence sequence) const noexcept {
  while (!at(sequence)->ends_batch && may_be_gone(sequence + 1)) {
    ++sequence;
  }
  return at(sequence)->ends_batch;
}

std::string ReferenceLog::compare(const OwnedEntry& entry) const {
  const auto* kept = at(entry.sequence);
  if (kept == nullptr) {
    return fmt::format("record {} was never appended", entry.sequence);
  }
  if (!is_entry(entry, *kept)) {
    return fmt::format("record {} is \"{}\", and \"{}\" was appended", entry.sequence, entry.key,
                       kept->record.key);
  }
  if (entry.ends_batch ? !may_end_batch(entry.sequence) : kept->ends_batch) {
    return fmt::format("record {} {} its batch", entry.sequence,
                       entry.ends_batch ? "ends" : "does not end");
  }
  if (kept->epoch != Epoch{} && entry.epoch != kept->epoch) {
    return fmt::format("record {} was of epoch {:x}, now of {:x}", entry.sequence, kept->epoch.bits,
                       entry.epoch.bits);
  }
  return {};
}

std::string ReferenceLog::compare_damaged(const OwnedEntry& entry) const {
  const auto [first, last] = cut_.equal_range(entry.sequence);
  if (std::any_of(first, last, [&](const auto& cut) { return is_entry(entry, cut.second); })) {
    return {};
  }
  return compare(entry);
}

void ReferenceLog::adopt(const LogContents& found) {
  adopt_undurable(found);
  durable_end_ = found.next_sequence;
}

void ReferenceLog::adopt_undurable(const LogContents& found) {
  std::ranges::move(pending_, std::back_inserter(records_));
  pending_.clear();
  for (auto sequence = found.next_sequence; sequence < records_.size(); ++sequence) {
    cut_.emplace(sequence, std::move(records_[sequence]));
  }
  records_.resize(found.next_sequence);
  const auto first = found.entries.empty() ? found.next_sequence : found.entries.front().sequence;
  first_max_ = first;
  tombstones_gone_end_ = std::min(tombstones_gone_end_, found.next_sequence);
  for (const auto& entry : found.entries) {
    records_[entry.sequence].epoch = entry.epoch;
    records_[entry.sequence].time = entry.time;
  }
}

}  // namespace nori::testing
