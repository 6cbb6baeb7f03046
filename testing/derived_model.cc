#include "testing/derived_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/try.h"
#include "nori/consumer.h"

namespace nori::testing {
namespace {

constexpr std::size_t kSnapshotValueBytes = 64;

std::string text_of(const DerivedModel::Place& place) {
  return place ? fmt::to_string(*place) : "no place";
}

Result<std::map<std::string, DerivedContents::Entry>> read_snapshot(const SnapshotFile& file,
                                                                    io::FileSystem& file_system) {
  auto opened =
      NORI_TRY(SnapshotReader::open("log", {.at = file.sequence, .file_system = &file_system}));
  if (!file.valid || !opened.reader) {
    return std::unexpected(
        Error{.code = ErrorCode::damaged,
              .message = fmt::format("{} has its name, and is not whole: {}", file.name,
                                     file.valid ? opened.skipped.at(0).reason : file.reason)});
  }
  std::map<std::string, DerivedContents::Entry> entries;
  while (const auto entry = NORI_TRY(opened.reader->next())) {
    entries.emplace(entry->key, DerivedContents::Entry{.sequence = entry->sequence,
                                                       .value = std::string(entry->value)});
  }
  return entries;
}

// How many of the set lie behind it.
std::size_t count_behind(const std::set<Sequence>& set, Sequence sequence) {
  return static_cast<std::size_t>(std::distance(set.upper_bound(sequence), set.end()));
}

}  // namespace

std::string_view snapshot_value(const OwnedRecord& record) {
  return std::string_view(record.value).substr(0, kSnapshotValueBytes);
}

Result<DerivedContents> read_derived(const Wal& wal, io::FileSystem& file_system) {
  DerivedContents contents;
  for (const auto& consumer : NORI_TRY(wal.consumers())) {
    if (consumer.unreadable) {
      return std::unexpected(*consumer.unreadable);
    }
    contents.cursors[consumer.name] = consumer.position.sequence;
  }
  for (const auto& file : NORI_TRY(list_snapshots("log", &file_system))) {
    contents.snapshots[file.sequence] = NORI_TRY(read_snapshot(file, file_system));
  }
  return contents;
}

// --- cursors -------------------------------------------------------------------------------------

void DerivedModel::begin_move(const std::string& name, Place to) {
  auto& cursor = cursors_[name];
  cursor.now.insert(to);
  cursor.after_power_cut.insert(to);
}

void DerivedModel::end_move(const std::string& name, Place to) {
  auto& cursor = cursors_[name];
  cursor.now = cursor.after_power_cut = {to};
}

std::string DerivedModel::see(const std::string& name, Place place) {
  auto& cursor = cursors_[name];
  if (!cursor.now.contains(place)) {
    return fmt::format("{} stands at {}", name, text_of(place));
  }
  cursor.now = {place};
  return {};
}

bool DerivedModel::may_be_missing(const std::string& name) const {
  const auto cursor = cursors_.find(name);
  return cursor == cursors_.end() || cursor->second.now.contains(std::nullopt);
}

// --- snapshots -----------------------------------------------------------------------------------

// The newest `retain` stay, whichever of the possible ones are there.
std::string DerivedModel::end_finish(std::uint64_t retain, const std::vector<Sequence>& removed,
                                     bool removed_all) {
  must_.insert(*writing_);
  visible_.insert(*writing_);
  const auto may_go = [&](Sequence sequence) { return count_behind(may_, sequence) >= retain; };
  for (const auto sequence : removed) {
    if (!may_go(sequence)) {
      return fmt::format("the snapshot of {} was removed", sequence);
    }
  }
  std::erase_if(must_, may_go);
  if (!removed_all) {
    std::erase_if(visible_, may_go);
    return {};
  }
  for (const auto sequence : removed) {
    visible_.erase(sequence);
    may_.erase(sequence);
  }
  return visible_.size() <= retain ? std::string{}
                                   : fmt::format("{} snapshots are left", visible_.size());
}

Sequence DerivedModel::newest_snapshot() const { return visible_.empty() ? 0 : *visible_.rbegin(); }

Sequence DerivedModel::newest_possible_snapshot() const {
  return may_.empty() ? 0 : *may_.rbegin();
}

// --- garbage -------------------------------------------------------------------------------------

Sequence DerivedModel::needed_from() const {
  auto from = std::min(passed_by_all(), writing_.value_or(kNowhere));
  return visible_.empty() ? from : std::min(from, *visible_.begin());
}

Sequence DerivedModel::passed_by_all() const {
  auto passed = kNowhere;
  for (const auto& [name, cursor] : cursors_) {
    // Of several places the one that holds back least; compare() knows the one it is.
    if (!cursor.now.contains(std::nullopt)) {
      passed = std::min(passed, **cursor.now.rbegin());
    }
  }
  return passed;
}

Sequence DerivedModel::snapshots_from() const {
  if (writing_) {
    return 0;
  }
  return visible_.empty() ? kNowhere : *visible_.begin();
}

void DerivedModel::begin_deletion() {
  for (const auto& name : capped_) {
    begin_move(name, std::nullopt);
  }
}

// --- after a crash -------------------------------------------------------------------------------

std::string DerivedModel::compare_cursors(const DerivedContents& found, Sequence first,
                                          const LogContents& log, Crash crash) const {
  for (const auto& [name, place] : found.cursors) {
    if (!cursors_.contains(name)) {
      return fmt::format("nobody made {}", name);
    }
  }
  for (const auto& [name, cursor] : cursors_) {
    const auto stands = found.cursors.find(name);
    const auto place = stands == found.cursors.end() ? Place{} : Place{stands->second};
    const auto& allowed = crash == Crash::power ? cursor.after_power_cut : cursor.now;
    if (!allowed.contains(place)) {
      return fmt::format("{} stands at {}", name, text_of(place));
    }
    if (place && (*place < first || *place > log.next_sequence)) {
      return fmt::format("{} stands at {}, and the log has [{}, {})", name, *place, first,
                         log.next_sequence);
    }
  }
  return {};
}

std::string DerivedModel::compare_snapshots(const DerivedContents& found, Sequence first,
                                            const LogContents& log,
                                            const ReferenceLog& reference) const {
  for (const auto sequence : must_) {
    if (!found.snapshots.contains(sequence)) {
      return fmt::format("the snapshot of {} is gone", sequence);
    }
  }
  for (const auto& [at, entries] : found.snapshots) {
    if (!may_.contains(at)) {
      return fmt::format("nobody wrote a snapshot of {}, or it was removed", at);
    }
    if (at < first || at > log.next_sequence) {
      return fmt::format("there is a snapshot of {}, and the log has [{}, {})", at, first,
                         log.next_sequence);
    }
    auto state = reference.state_before(at);
    if (!std::ranges::equal(state, entries, [&](const auto& due, const auto& entry) {
          return due.first == entry.first && due.second == entry.second.sequence &&
                 snapshot_value(reference.record(due.second)) == entry.second.value;
        })) {
      return fmt::format("the snapshot of {} holds something else", at);
    }
    for (const auto& entry : log.entries) {
      if (entry.sequence < at) {
        continue;
      }
      if (entry.op == nori::Operation::remove) {
        state.erase(entry.key);
      } else {
        state[entry.key] = entry.sequence;
      }
    }
    if (state != reference.state_before(log.next_sequence)) {
      return fmt::format("the snapshot of {} and the log behind it make another state", at);
    }
  }
  return {};
}

std::string DerivedModel::compare(const DerivedContents& found, Sequence first,
                                  const LogContents& log, const ReferenceLog& reference,
                                  Crash crash) const {
  auto wrong = compare_cursors(found, first, log, crash);
  return wrong.empty() ? compare_snapshots(found, first, log, reference) : wrong;
}

void DerivedModel::adopt(const DerivedContents& found, Crash crash) {
  for (auto& [name, cursor] : cursors_) {
    const auto stands = found.cursors.find(name);
    cursor.now = {stands == found.cursors.end() ? Place{} : Place{stands->second}};
    if (crash == Crash::power) {
      cursor.after_power_cut = cursor.now;
    }
  }
  visible_.clear();
  for (const auto& [at, entries] : found.snapshots) {
    visible_.insert(at);
  }
  if (crash == Crash::power) {
    must_ = may_ = visible_;
  }
  writing_.reset();
}

}  // namespace nori::testing
