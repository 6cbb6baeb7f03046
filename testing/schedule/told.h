// What has to be true of a log that several threads append to at a time: what each was told, and
// what a crash may have left then.

#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "nori/error.h"
#include "nori/position.h"
#include "nori/wal.h"
#include "testing/reference_model.h"

namespace nori::testing {

/// An append, from its begin on.
struct Attempt {
  enum class Outcome : std::uint8_t {
    unknown,   ///< May be there, as a whole: not answered before the crash, or with an `io` error.
    appended,  ///< At `position`.
    refused,   ///< Is not there.
  };
  std::uint64_t number = 0;
  std::uint64_t thread = 0;
  std::vector<OwnedRecord> records;  ///< The first is like no other.
  Sequence not_before = 0;           ///< What had been appended when it began.
  Outcome outcome = Outcome::unknown;
  Position position = {};
};

/// What the threads of one life of a log were told before it died.
///
/// In which order appends stand that were under way together is not known before the log is read:
/// then settle() tells it to the ReferenceLog, which knows one append at a time.
///
/// Threads: one at a time. What is answered after the crash is not told.
class Told {
 public:
  /// `earlier` is what was there before, and outlives this.
  explicit Told(const ReferenceLog& earlier)
      : earlier_(earlier), appended_end_{.sequence = earlier.appended_end()} {}

  [[nodiscard]] Attempt& begin_append(std::uint64_t thread, std::vector<OwnedRecord> records);
  /// Returns what is wrong about the answer, or nothing.
  [[nodiscard]] std::string end_append(Attempt& attempt, const Result<Appended>& answer);

  /// Everything before `end` is.
  void durable(Sequence end) { durable_end_ = std::max(durable_end_, end); }

  /// Somebody has read it. Returns what is wrong about that, or nothing.
  [[nodiscard]] std::string saw(OwnedEntry entry);

  void begin_delete(Sequence end) { delete_begun_ = std::max(delete_begun_, end); }
  /// All that was begun has been done, and the log begins at `first` now.
  void end_delete(Sequence first);
  /// Records may stand elsewhere from now on.
  void begin_compaction() { is_compacted_ = true; }

  [[nodiscard]] Position appended_end() const noexcept { return appended_end_; }
  [[nodiscard]] Sequence durable_end() const noexcept { return durable_end_; }
  /// Nothing that is under way can come to stand before it.
  [[nodiscard]] Sequence settled_end() const;
  [[nodiscard]] bool has_deleted() const noexcept { return delete_begun_ != 0; }

  /// `found` is what `crash` has left: `reference`, which is as `earlier` was, learns of this life.
  /// Returns what is wrong, or nothing; the rest is for ReferenceLog::compare() to find.
  [[nodiscard]] std::string settle(const LogContents& found, Crash crash,
                                   ReferenceLog& reference) const;

 private:
  [[nodiscard]] std::string settle_appends(const LogContents& found, Crash crash,
                                           ReferenceLog& reference) const;
  [[nodiscard]] std::string check_place(const Attempt& attempt, const OwnedEntry* entry) const;

  const ReferenceLog& earlier_;
  std::deque<Attempt> attempts_;
  Position appended_end_;
  Sequence durable_end_ = 0;
  std::map<Sequence, OwnedEntry> seen_;  ///< Of this life's records.
  Sequence delete_begun_ = 0;
  Sequence delete_ended_ = 0;
  Sequence deleted_first_ = 0;
  bool is_compacted_ = false;
};

}  // namespace nori::testing
