#include "testing/schedule/told.h"

#include <fmt/format.h>

#include <utility>

namespace nori::testing {
namespace {

bool holds(const Attempt& attempt, const OwnedEntry& entry) {
  return std::ranges::any_of(attempt.records, [&](const OwnedRecord& record) {
    return record.key == entry.key && record.value == entry.value;
  });
}

bool begins_with(const Attempt& attempt, const OwnedEntry& entry) {
  const auto& first = attempt.records.front();
  return first.key == entry.key && first.value == entry.value;
}

}  // namespace

Attempt& Told::begin_append(std::uint64_t thread, std::vector<OwnedRecord> records) {
  return attempts_.emplace_back(Attempt{.number = attempts_.size() + 1,
                                        .thread = thread,
                                        .records = std::move(records),
                                        .not_before = appended_end_.sequence});
}

std::string Told::end_append(Attempt& attempt, const Result<Appended>& answer) {
  if (!answer) {
    const auto& error = answer.error();
    if (error.code == ErrorCode::io) {
      return {};
    }
    if (error.position) {
      attempt.outcome = Attempt::Outcome::appended;
      attempt.position = *error.position;
      return {};
    }
    attempt.outcome = Attempt::Outcome::refused;
    const auto seen =
        std::ranges::find_if(seen_, [&](const auto& one) { return holds(attempt, one.second); });
    return seen == seen_.end() ? std::string{}
                               : fmt::format("record {} was read, and then refused", seen->first);
  }
  attempt.outcome = Attempt::Outcome::appended;
  attempt.position = answer->position;
  if (answer->sequence < attempt.not_before || answer->position.sequence != answer->sequence ||
      answer->end.sequence != answer->sequence + attempt.records.size()) {
    return fmt::format("{} records were appended as [{}, {}), behind {}", attempt.records.size(),
                       answer->sequence, answer->end.sequence, attempt.not_before);
  }
  appended_end_ = std::max(appended_end_, answer->end);
  return {};
}

std::string Told::saw(OwnedEntry entry) {
  const auto sequence = entry.sequence;
  if (sequence < earlier_.appended_end()) {
    return earlier_.compare(entry);
  }
  const bool was_refused = std::ranges::any_of(attempts_, [&](const Attempt& attempt) {
    return attempt.outcome == Attempt::Outcome::refused && holds(attempt, entry);
  });
  if (was_refused) {
    return fmt::format("record {} was refused", sequence);
  }
  const auto before = seen_.find(sequence);
  if (before == seen_.end()) {
    seen_.emplace(sequence, std::move(entry));
  } else if (before->second.key != entry.key || before->second.value != entry.value) {
    return fmt::format("record {} was read as two", sequence);
  }
  return {};
}

void Told::end_delete(Sequence first) {
  delete_ended_ = delete_begun_;
  deleted_first_ = first;
}

Sequence Told::settled_end() const {
  auto end = appended_end_.sequence;
  for (const auto& attempt : attempts_) {
    if (attempt.outcome == Attempt::Outcome::unknown) {
      end = std::min(end, attempt.not_before);
    }
  }
  return end;
}

std::string Told::settle(const LogContents& found, Crash crash, ReferenceLog& reference) const {
  if (auto wrong = settle_appends(found, crash, reference); !wrong.empty()) {
    return wrong;
  }
  if (crash == Crash::process && !seen_.empty() && seen_.rbegin()->first >= found.next_sequence) {
    return fmt::format("record {} was read, and is missing", seen_.rbegin()->first);
  }
  for (const auto& [sequence, entry] : seen_) {
    if (sequence < reference.appended_end()) {
      if (auto wrong = reference.compare(entry); !wrong.empty()) {
        return "as it was read, " + wrong;
      }
    }
  }
  if (delete_ended_ != 0) {
    reference.begin_delete(delete_ended_);
    if (auto wrong = reference.end_delete(deleted_first_); !wrong.empty()) {
      return wrong;
    }
  }
  reference.begin_delete(delete_begun_);
  return reference.acknowledge_durable(durable_end_);
}

// Tells `reference` of the appends in the order of their records: those whose place was told, and
// between them those that are found. Behind a place where neither is, a power cut has taken all
// that was not durable.
std::string Told::settle_appends(const LogContents& found, Crash crash,
                                 ReferenceLog& reference) const {
  std::map<Sequence, const Attempt*> appended;
  std::vector<const Attempt*> unknown;
  for (const auto& attempt : attempts_) {
    if (attempt.outcome == Attempt::Outcome::unknown) {
      unknown.push_back(&attempt);
    } else if (attempt.outcome == Attempt::Outcome::appended &&
               !appended.emplace(attempt.position.sequence, &attempt).second) {
      return fmt::format("two appends were told that they are record {}",
                         attempt.position.sequence);
    }
  }
  std::map<std::uint64_t, std::uint64_t> last_numbers;  // by thread
  for (;;) {
    const auto next = reference.appended_end();
    const auto place = std::ranges::lower_bound(found.entries, next, {}, &OwnedEntry::sequence);
    const auto* const entry =
        place != found.entries.end() && place->sequence == next ? &*place : nullptr;
    const Attempt* attempt = nullptr;
    if (const auto told = appended.find(next); told != appended.end()) {
      attempt = told->second;
      appended.erase(told);
      if (auto wrong = check_place(*attempt, entry); !wrong.empty()) {
        return wrong;
      }
    } else if (entry != nullptr) {
      const auto begun = std::ranges::find_if(
          unknown, [&](const Attempt* one) { return begins_with(*one, *entry); });
      if (begun != unknown.end()) {
        attempt = *begun;
        unknown.erase(begun);
      }
    }
    if (attempt == nullptr) {
      break;
    }
    if (std::exchange(last_numbers[attempt->thread], attempt->number) > attempt->number) {
      return fmt::format("thread {} began record {} before one that is in front of it",
                         attempt->thread, next);
    }
    reference.begin_append(attempt->records);
    Appended answer{.sequence = next, .position = {.sequence = next}, .end = {}};
    answer.end.sequence = next + attempt->records.size();
    if (auto wrong = reference.end_append(answer); !wrong.empty()) {
      return wrong;
    }
  }
  if (crash == Crash::process && !appended.empty()) {
    return fmt::format("record {} is missing, and record {} was appended", reference.appended_end(),
                       appended.begin()->first);
  }
  return {};
}

// It is found where it was said to be, if it is found.
std::string Told::check_place(const Attempt& attempt, const OwnedEntry* entry) const {
  const auto& told = attempt.position;
  if (entry == nullptr || is_compacted_ ||
      (entry->position.segment_id == told.segment_id && entry->position.offset == told.offset)) {
    return {};
  }
  return fmt::format("record {} was appended at {}:{}, and is at {}:{}", told.sequence,
                     told.segment_id, told.offset, entry->position.segment_id,
                     entry->position.offset);
}

}  // namespace nori::testing
