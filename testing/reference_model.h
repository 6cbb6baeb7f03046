// What a log has to hold, kept beside it while it is written, and compared with what is there after
// a crash.

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nori/error.h"
#include "nori/position.h"
#include "nori/record.h"
#include "nori/wal.h"

namespace nori::testing {

/// A record, owning its bytes.
struct OwnedRecord {
  nori::Operation op = nori::Operation::put;
  std::string key;
  std::string value;
  std::optional<TimePoint> expires_at;

  [[nodiscard]] Record view() const {
    return {.op = op, .key = key, .value = value, .expires_at = expires_at};
  }
};

/// What happened since the log was last seen to be written to.
enum class Crash : std::uint8_t {
  none,     ///< Everything appended has to be there.
  process,  ///< The same: what had been appended survives the process.
  power,    ///< Everything durable has to be there.
};

/// Everything from the log's first record left to its end.
struct LogContents {
  std::vector<OwnedEntry> entries;
  /// What the next record's sequence will be.
  Sequence next_sequence = 0;
};

/// Reads all of it. Errors as Reader::next's.
[[nodiscard]] Result<LogContents> read_all(const Wal& wal);

/// A log in memory: all that was ever appended, what of it has to survive which crash, and what
/// may.
///
/// Told of every call to a Wal, before and after, it knows more than the log: a log that loses or
/// invents a record, splits a batch or returns one of another life does not match.
///
/// Threads: one at a time. Limits: one append at a time.
class ReferenceLog {
 public:
  /// `batch` is about to be appended as one.
  void begin_append(std::vector<OwnedRecord> batch);
  /// What the append answered. Returns what is wrong about that, or nothing.
  [[nodiscard]] std::string end_append(const Result<Appended>& answer);

  /// Somebody was told that everything before `end` is durable.
  [[nodiscard]] std::string acknowledge_durable(Sequence end);
  /// Somebody was told that all of it is.
  void acknowledge_all_durable() { durable_end_ = appended_end(); }

  /// Whole segments before `position` are about to be deleted.
  void begin_delete(Sequence position);
  /// They were, and the log begins at `first` now.
  [[nodiscard]] std::string end_delete(Sequence first);

  /// Sealed segments are about to be compacted, none with a record from `end` on: a record may go
  /// that has a newer one of its key before `end`, and a tombstone before `tombstones_end`.
  void begin_compaction(Sequence end, Sequence tombstones_end);

  /// Whether a log with this in it is one that `crash` may leave. Returns what is wrong about it,
  /// or nothing.
  [[nodiscard]] std::string compare(const LogContents& found, Crash crash) const;
  /// Whether an entry is what was appended as that record. Returns what is wrong, or nothing.
  [[nodiscard]] std::string compare(const OwnedEntry& entry) const;
  /// The same, of a log that somebody has damaged: what a crash had cut, and recovery not yet
  /// removed, may be found behind the damage.
  [[nodiscard]] std::string compare_damaged(const OwnedEntry& entry) const;
  /// This is the log from now on: all of it is durable, save that a deletion nobody was told of may
  /// be undone yet. compare() found nothing wrong.
  void adopt(const LogContents& found);
  /// The same, but it is no more durable than it was: it was only looked at.
  void adopt_undurable(const LogContents& found);

  /// Whether it was compacted away, or may have been.
  [[nodiscard]] bool may_be_gone(Sequence sequence) const noexcept {
    return sequence < records_.size() && records_[sequence].may_be_gone;
  }

  /// What the records before `end` make: each key that has a value, and the record that gave it.
  [[nodiscard]] std::map<std::string_view, Sequence> state_before(Sequence end) const;
  /// Whoever has the state before this place or a later one can go on with what is left of the log;
  /// to an earlier state a tombstone may be missing.
  [[nodiscard]] Sequence complete_from() const noexcept { return tombstones_gone_end_; }
  /// Before `end` of what compare() was told of.
  [[nodiscard]] const OwnedRecord& record(Sequence sequence) const { return at(sequence)->record; }
  /// Behind the last record known to have been appended before `time`.
  [[nodiscard]] Sequence first_since(TimePoint time) const noexcept;

  [[nodiscard]] Sequence appended_end() const noexcept { return records_.size(); }
  [[nodiscard]] Sequence durable_end() const noexcept { return durable_end_; }
  /// Appends that were begun: a number for the next one's contents.
  [[nodiscard]] std::uint64_t appends_begun() const noexcept { return appends_begun_; }
  /// An append was begun whose outcome is not known.
  [[nodiscard]] bool has_pending() const noexcept { return !pending_.empty(); }

 private:
  struct Kept {
    OwnedRecord record;
    bool ends_batch = false;
    bool may_be_gone = false;  ///< By a compaction.
    // Of the entry, once it was read.
    Epoch epoch = {};
    std::optional<TimePoint> time = {};
  };

  [[nodiscard]] const Kept* at(Sequence sequence) const noexcept;
  [[nodiscard]] static bool is_entry(const OwnedEntry& entry, const Kept& kept);
  [[nodiscard]] bool may_end_batch(Sequence sequence) const noexcept;
  /// What is wrong about it that no record of [first, end) is there, or nothing.
  [[nodiscard]] std::string check_gone(Sequence first, Sequence end) const;
  /// What is wrong about the newest records of each key there, or nothing.
  [[nodiscard]] std::string check_newest(const LogContents& found) const;

  std::vector<Kept> records_;          ///< By sequence, deleted ones included.
  std::vector<Kept> pending_;          ///< May be there, behind records_, all or none.
  std::multimap<Sequence, Kept> cut_;  ///< What crashes took.
  Sequence durable_end_ = 0;
  std::uint64_t appends_begun_ = 0;
  // The first record left lies in [first_min_, first_max_].
  Sequence first_min_ = 0;
  Sequence first_max_ = 0;
  Sequence tombstones_gone_end_ = 0;  ///< Behind the last that may be gone, and was the newest.
};

}  // namespace nori::testing
