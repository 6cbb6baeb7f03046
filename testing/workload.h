// What a program does with a log, as data: so that it can be done again with a crash or a failure
// at every place.

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nori/consumer.h"
#include "nori/options.h"
#include "nori/snapshot.h"
#include "nori/wal.h"
#include "testing/derived_model.h"
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
    consume,
    commit,
    flush,
    seek,
    leave,
    drop,
    begin_snapshot,
    finish_snapshot,
    retain,
    close,
  };

  Kind kind = Kind::open;
  // Of `append` and `try_append`, and `times` of `consume`.
  std::uint64_t times = 1;
  std::uint64_t records = 1;  ///< In each call: a batch if there are several.
  std::uint64_t value_bytes = 0;
  Durability durability = Durability::policy;
  // Of consumers' steps, and `back` of `begin_snapshot`.
  std::uint64_t consumer = 0;  ///< Which one: from kCappedConsumers on it has a cap.
  std::uint64_t back = 0;      ///< A place: so many records before the log's end.
  std::uint64_t keep = 2;      ///< Of `begin_snapshot`: how many snapshots stay.
  // Of `compact`.
  std::uint64_t skip = 0;  ///< Records at the log's begin whose segments are left alone.
  bool keeps_all = false;
  // Of `retain`.
  std::uint64_t max_bytes = 0;
  std::int64_t max_age_ms = 0;
};

inline constexpr std::uint64_t kCappedConsumers = 2;
[[nodiscard]] std::string consumer_name(std::uint64_t consumer);

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
/// All segments but the active one, and those of the first `skip` records.
[[nodiscard]] inline Step compact(std::uint64_t skip = 0, bool keeps_all = false) {
  return {.kind = Step::Kind::compact, .skip = skip, .keeps_all = keeps_all};
}
/// All of it, and some record again by its position, sequence and time.
[[nodiscard]] inline Step read() { return {.kind = Step::Kind::read}; }
/// What came since the last time, with a reader that stays open.
[[nodiscard]] inline Step follow() { return {.kind = Step::Kind::follow}; }
/// Each of the steps of a consumer opens it where it is not; a new one begins `back` records before
/// the end. This reads so many records and commits them.
[[nodiscard]] inline Step consume(std::uint64_t consumer, std::uint64_t times,
                                  std::uint64_t back = 0) {
  return {.kind = Step::Kind::consume, .times = times, .consumer = consumer, .back = back};
}
/// What was not read as well.
[[nodiscard]] inline Step commit(std::uint64_t consumer, std::uint64_t back = 0) {
  return {.kind = Step::Kind::commit, .consumer = consumer, .back = back};
}
[[nodiscard]] inline Step flush(std::uint64_t consumer) {
  return {.kind = Step::Kind::flush, .consumer = consumer};
}
[[nodiscard]] inline Step seek(std::uint64_t consumer, std::uint64_t back) {
  return {.kind = Step::Kind::seek, .consumer = consumer, .back = back};
}
/// Closes it.
[[nodiscard]] inline Step leave(std::uint64_t consumer) {
  return {.kind = Step::Kind::leave, .consumer = consumer};
}
[[nodiscard]] inline Step drop(std::uint64_t consumer) {
  return {.kind = Step::Kind::drop, .consumer = consumer};
}
/// Writes all entries of a snapshot of what is before a place. It is given up where none finishes
/// it.
[[nodiscard]] inline Step begin_snapshot(std::uint64_t back, std::uint64_t keep) {
  return {.kind = Step::Kind::begin_snapshot, .back = back, .keep = keep};
}
[[nodiscard]] inline Step finish_snapshot() { return {.kind = Step::Kind::finish_snapshot}; }
/// Applies a policy of retention.
[[nodiscard]] inline Step retain(std::uint64_t max_bytes, std::int64_t max_age_ms) {
  return {.kind = Step::Kind::retain, .max_bytes = max_bytes, .max_age_ms = max_age_ms};
}
/// Consumers that are open outlive it.
[[nodiscard]] inline Step close() { return {.kind = Step::Kind::close}; }

/// The records of one append, which no other has: mostly puts, some of them expiring, some
/// tombstones. Every eighth has the same keys, unless its values are empty. All appends of one
/// shape have the same size, so that frames of one life would fit where those of another stood.
[[nodiscard]] std::vector<OwnedRecord> make_records(std::uint64_t append_number,
                                                    std::uint64_t records,
                                                    std::uint64_t value_bytes);

/// A log on a simulated disk, with the reference that says what it has to hold, and what may have
/// been made from it. What fails of that ends no script.
///
/// Threads: one at a time. Lifetime: the disk outlives it.
class CheckedLog {
 public:
  /// `reference` and `derived` are what the disk holds already.
  CheckedLog(SimulatedDisk& disk, WalOptions options, ReferenceLog reference = {},
             DerivedModel derived = {});

  /// Does the step. False if a call answered an error: see error().
  bool run(const Step& step);
  /// Does them until one answers an error.
  bool run(const Script& script);

  [[nodiscard]] const std::optional<Error>& error() const noexcept { return error_; }
  /// Whether something is to blame for an error: the disk is dead, or a fault has struck.
  [[nodiscard]] bool is_excused() const;
  /// What the log did that it must not, apart from errors; empty if nothing. The first counts.
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
  /// Once: open() has answered that the directory is a log.
  [[nodiscard]] bool was_opened() const noexcept { return was_opened_; }
  /// Whether a log that has failed takes more appends, syncs or rotations. If so, that is the
  /// problem.
  void check_stays_failed();

  [[nodiscard]] const ReferenceLog& reference() const noexcept { return reference_; }
  [[nodiscard]] const DerivedModel& derived() const noexcept { return derived_; }
  [[nodiscard]] Wal* wal() noexcept { return wal_ ? &*wal_ : nullptr; }

 private:
  struct OpenConsumer {
    Consumer consumer;
    Sequence next = 0;  ///< What it returns next.
  };
  struct OpenSnapshot {
    SnapshotWriter writer;
    Sequence at = 0;
    std::uint64_t keep = 0;
  };
  struct Place {
    ConsumerStart start;
    Sequence sequence = 0;
  };

  template <typename T>
  bool note(const Result<T>& answer);
  void complain(std::string problem);
  bool open_log();
  bool close_log();
  bool append_once(const Step& step);
  bool delete_segments();
  bool apply_retention(const Step& step);
  template <typename Delete>
  bool delete_up_to(Sequence limit, Delete call);
  bool compact_segments(const Step& step);
  bool read_back();
  bool find_again(const OwnedEntry& entry);
  bool follow_on();

  // workload_derived.cc: what is made from the log.

  /// Whether a call was answered; what else has a cause, or is a problem.
  template <typename T>
  bool tolerate(const Result<T>& answer);
  /// The same, of a consumer, which may turn out to have been dropped.
  template <typename T>
  bool tolerate(const std::string& name, const Result<T>& answer);
  [[nodiscard]] Place place_of(const Step& step) const;
  [[nodiscard]] OpenConsumer* consumer_of(const Step& step);
  void consume(const Step& step);
  void commit(const Step& step);
  void flush(const Step& step);
  void seek(const Step& step);
  void leave(const std::string& name);
  void drop(const std::string& name);
  void begin_snapshot(const Step& step);
  void finish_snapshot();
  void give_up_snapshot();

  SimulatedDisk& disk_;
  const std::uint64_t faults_before_;
  WalOptions options_;
  ReferenceLog reference_;
  DerivedModel derived_;
  std::optional<Wal> wal_;
  std::optional<Reader> follower_;
  Sequence followed_ = 0;           ///< What the follower returns next.
  bool follower_may_lose_ = false;  ///< Somebody deleted without asking it.
  std::map<std::string, OpenConsumer> consumers_;
  std::optional<OpenSnapshot> snapshot_;
  std::optional<Error> error_;
  std::string problem_;
  bool was_opened_ = false;
};

}  // namespace nori::testing
