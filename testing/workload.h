// What a program does with a log, as data: so that it can be done again with a crash or a failure
// at every place.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nori/options.h"
#include "nori/wal.h"
#include "testing/reference_model.h"
#include "testing/simulated_disk.h"

namespace nori::testing {

/// One call to a log, or a few alike.
struct Step {
  enum class Kind : std::uint8_t {
    open,
    append,
    try_append,
    sync,
    wait_durable,
    rotate,
    delete_old,
    compact,
    read,
    follow,
    close,
  };

  Kind kind = Kind::open;
  // Of `append` and `try_append`.
  std::uint64_t times = 1;
  std::uint64_t records = 1;  ///< In each call: a batch if there are several.
  std::uint64_t value_bytes = 0;
  Durability durability = Durability::policy;
};

using Script = std::vector<Step>;

// So that a script reads as one: {append(3), sync(), rotate(), append_batch(4), close()}.
[[nodiscard]] inline Step open() { return {.kind = Step::Kind::open}; }
[[nodiscard]] inline Step append(std::uint64_t times, std::uint64_t value_bytes = 100) {
  return {.kind = Step::Kind::append, .times = times, .value_bytes = value_bytes};
}
[[nodiscard]] inline Step append_durable(std::uint64_t times, std::uint64_t value_bytes = 100) {
  return {.kind = Step::Kind::append,
          .times = times,
          .value_bytes = value_bytes,
          .durability = Durability::durable};
}
[[nodiscard]] inline Step append_batches(std::uint64_t times, std::uint64_t records,
                                         std::uint64_t value_bytes = 100) {
  return {
      .kind = Step::Kind::append, .times = times, .records = records, .value_bytes = value_bytes};
}
[[nodiscard]] inline Step append_batch(std::uint64_t records, std::uint64_t value_bytes = 100) {
  return append_batches(1, records, value_bytes);
}
/// Gives way where the ring is full.
[[nodiscard]] inline Step try_append(std::uint64_t times, std::uint64_t value_bytes = 100) {
  return {.kind = Step::Kind::try_append, .times = times, .value_bytes = value_bytes};
}
[[nodiscard]] inline Step sync() { return {.kind = Step::Kind::sync}; }
/// For the first half of what is not durable yet.
[[nodiscard]] inline Step wait_durable() { return {.kind = Step::Kind::wait_durable}; }
[[nodiscard]] inline Step rotate() { return {.kind = Step::Kind::rotate}; }
/// All segments but the active one.
[[nodiscard]] inline Step delete_old() { return {.kind = Step::Kind::delete_old}; }
/// All segments but the active one.
[[nodiscard]] inline Step compact() { return {.kind = Step::Kind::compact}; }
/// All of it, and some record again by its position, sequence and time.
[[nodiscard]] inline Step read() { return {.kind = Step::Kind::read}; }
/// What came since the last time, with a reader that stays open.
[[nodiscard]] inline Step follow() { return {.kind = Step::Kind::follow}; }
[[nodiscard]] inline Step close() { return {.kind = Step::Kind::close}; }

/// The records of one append, which no other has: mostly puts, some of them expiring, some
/// tombstones. Every eighth has the same keys, unless its values are empty. All appends of one
/// shape have the same size, so that frames of one life would fit where those of another stood.
[[nodiscard]] std::vector<OwnedRecord> make_records(std::uint64_t append_number,
                                                    std::uint64_t records,
                                                    std::uint64_t value_bytes);

/// A log on a simulated disk, with the reference that says what it has to hold.
///
/// Threads: one at a time. Lifetime: the disk outlives it.
class CheckedLog {
 public:
  /// `reference` is what the disk holds already.
  CheckedLog(SimulatedDisk& disk, WalOptions options, ReferenceLog reference = {});

  /// Does the step. False if a call answered an error: see error().
  bool run(const Step& step);
  /// Does them until one answers an error.
  bool run(const Script& script);

  [[nodiscard]] const std::optional<Error>& error() const noexcept { return error_; }
  /// What the log did that it must not, apart from errors; empty if nothing. The first counts.
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
  /// Once: open() has answered that the directory is a log.
  [[nodiscard]] bool was_opened() const noexcept { return was_opened_; }
  /// Whether a log that has failed takes more appends, syncs or rotations. If so, that is the
  /// problem.
  void check_stays_failed();

  [[nodiscard]] const ReferenceLog& reference() const noexcept { return reference_; }
  [[nodiscard]] Wal* wal() noexcept { return wal_ ? &*wal_ : nullptr; }

 private:
  template <typename T>
  bool note(const Result<T>& answer);
  void complain(std::string problem);
  bool open_log();
  bool append_once(const Step& step);
  bool delete_segments();
  bool compact_segments();
  bool read_back();
  bool find_again(const OwnedEntry& entry);
  bool follow_on();

  WalOptions options_;
  ReferenceLog reference_;
  std::optional<Wal> wal_;
  std::optional<Reader> follower_;
  Sequence followed_ = 0;  ///< What the follower returns next.
  std::optional<Error> error_;
  std::string problem_;
  bool was_opened_ = false;
};

}  // namespace nori::testing
