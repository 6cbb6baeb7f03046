// What was made from a log and names a place in it, kept beside the log's reference: where its
// cursors may stand, and which snapshots may be there, after which crash.

#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "io/file_system.h"
#include "nori/error.h"
#include "nori/position.h"
#include "nori/record.h"
#include "nori/snapshot.h"
#include "nori/wal.h"
#include "testing/reference_model.h"

namespace nori::testing {

/// What a snapshot of a reference's state holds of a record's value: its beginning, so that
/// snapshots stay small.
[[nodiscard]] std::string_view snapshot_value(const OwnedRecord& record);

/// All that was made from a log, as it is found.
struct DerivedContents {
  struct Entry {
    Sequence sequence = 0;
    std::string value;
  };
  std::map<std::string, Sequence> cursors;
  std::map<Sequence, std::map<std::string, Entry>> snapshots;
};

/// Reads all of it, snapshots to their last byte. Errors: `damaged`, also for a snapshot that has
/// its name and is not whole; as Wal::consumers() and SnapshotReader.
[[nodiscard]] Result<DerivedContents> read_derived(const Wal& wal, io::FileSystem& file_system);

/// Told of each change before and after, it knows what a crash at any moment may leave.
///
/// Threads: one at a time.
class DerivedModel {
 public:
  /// Nothing: there is no such cursor.
  using Place = std::optional<Sequence>;

  // Cursors.

  /// The cursor is about to be written, or with no place to be dropped.
  void begin_move(const std::string& name, Place to);
  /// It was, durably.
  void end_move(const std::string& name, Place to);
  /// Whether the cursor is found where it may stand now, or what is wrong.
  [[nodiscard]] std::string see(const std::string& name, Place place);
  [[nodiscard]] bool may_be_missing(const std::string& name) const;
  /// It is dropped if it holds back too much.
  void set_cap(const std::string& name) { capped_.insert(name); }

  // Snapshots.

  /// One of what is before `at` is being written.
  void begin_writing(Sequence at) { writing_ = at; }
  /// It may take its name from now on.
  void begin_finish() { may_.insert(writing_.value()); }
  /// It has it, and the `removed` ones have gone; all that had to, if `removed_all`.
  [[nodiscard]] std::string end_finish(std::uint64_t retain, const std::vector<Sequence>& removed,
                                       bool removed_all);
  void end_writing() { writing_.reset(); }
  /// Nobody may write one of a place before.
  [[nodiscard]] Sequence newest_snapshot() const;
  /// The same, of those of which it is not known whether they are there.
  [[nodiscard]] Sequence newest_possible_snapshot() const;

  // The log's garbage.

  /// Records from here on are needed by a cursor or a snapshot.
  [[nodiscard]] Sequence needed_from() const;
  /// Consumers have passed what lies before.
  [[nodiscard]] Sequence passed_by_all() const;
  /// No snapshot is older than a tombstone before.
  [[nodiscard]] Sequence snapshots_from() const;
  /// Segments are about to be deleted: cursors with a cap may be dropped.
  void begin_deletion();

  // The clock that deletion by age goes by.

  void see_clock(TimePoint now) { furthest_clock_ = std::max(furthest_clock_, now); }
  /// What the clock said at its furthest, in the lives before.
  [[nodiscard]] TimePoint furthest_clock() const { return furthest_clock_; }

  // After a crash.

  /// Whether `crash` may leave this of it, beside `log`, whose first record is `first` and which
  /// `reference` agrees with. Returns what is wrong, or nothing.
  [[nodiscard]] std::string compare(const DerivedContents& found, Sequence first,
                                    const LogContents& log, const ReferenceLog& reference,
                                    Crash crash) const;
  /// This is what there is from now on. compare() found nothing wrong.
  void adopt(const DerivedContents& found, Crash crash);

  [[nodiscard]] bool empty() const { return cursors_.empty() && may_.empty(); }

 private:
  struct Cursor {
    std::set<Place> now{Place{}};              ///< Where it may be found.
    std::set<Place> after_power_cut{Place{}};  ///< More than those.
  };

  static constexpr Sequence kNowhere = std::numeric_limits<Sequence>::max();

  [[nodiscard]] std::string compare_cursors(const DerivedContents& found, Sequence first,
                                            const LogContents& log, Crash crash) const;
  [[nodiscard]] std::string compare_snapshots(const DerivedContents& found, Sequence first,
                                              const LogContents& log,
                                              const ReferenceLog& reference) const;

  std::map<std::string, Cursor> cursors_;
  std::set<std::string> capped_;

  // Each a part of the next.
  std::set<Sequence> must_;     ///< Snapshots that no crash takes.
  std::set<Sequence> visible_;  ///< That are there now.
  std::set<Sequence> may_;      ///< That may be found after a crash.
  std::optional<Sequence> writing_;

  TimePoint furthest_clock_{};
};

}  // namespace nori::testing
