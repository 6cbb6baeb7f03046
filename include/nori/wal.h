#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "nori/compaction.h"
#include "nori/error.h"
#include "nori/latency.h"
#include "nori/options.h"
#include "nori/position.h"
#include "nori/record.h"

namespace nori {

/// What an append placed in the log.
struct Appended {
  /// Of the first record.
  Sequence sequence = 0;
  /// Of the first record.
  Position position;
  /// Behind the last record: everything before it includes this append. `wait_durable(end)` waits
  /// for it.
  Position end;
};

/// What `open` found, and what it did about it.
struct RecoveryInfo {
  /// Whether the directory became a log by this opening.
  bool created = false;
  /// Whether the log had been closed cleanly, so that nothing had to be scanned.
  bool closed_cleanly = false;
  /// Records in the segments that were scanned, those from the ring included.
  std::uint64_t valid_records = 0;
  std::uint64_t segments_scanned = 0;
  /// Of the last record, if the log holds one that was scanned.
  std::optional<Position> last_valid_position;
  /// What the next record's sequence will be.
  Sequence next_sequence = 0;
  /// Bytes behind the end that were not blank and were cut (or would be, when read-only).
  std::uint64_t bytes_truncated = 0;
  /// Where they began.
  std::optional<Position> truncated_at;
  /// Why the log ends where it does, in words; empty when nothing was cut.
  std::string reason;
  /// A crash left a torn tail. Not damage.
  bool torn_tail = false;
  /// Durable data is missing or altered. Only a read-only opening goes on in spite of it.
  bool corruption_detected = false;
  /// Records that were still in the ring, and are in their segment now.
  std::uint64_t records_from_ring = 0;
  /// Read-only: why the ring was not read, though there is one, and what that leaves out.
  std::string ring_note;
  /// Files written to or moved into `quarantine/`, by name.
  std::vector<std::string> quarantined;
  /// What went into no quarantine, and why; empty when nothing.
  std::string quarantine_note;
  std::chrono::microseconds time_taken{0};
};

/// Who keeps segments from being deleted.
struct Hold {
  /// "cursor", or "reader": the one of this process that is furthest behind.
  std::string what;
  /// The consumer's, else empty.
  std::string name;
  /// Since when it stands there: a cursor's last commit, a reader's last change of segment.
  TimePoint since;
  /// What lies before it, it does not need.
  Position position;
  /// Of the segments, the active one apart, that cannot be deleted while it stands there.
  std::uint64_t bytes_held = 0;
  /// Why the cursor cannot be read; it holds everything then.
  std::optional<Error> unreadable;
};

/// What a log is made of and how it works, at one moment.
struct WalStats {
  std::uint64_t segments = 0;
  std::uint64_t active_segment_id = 0;
  /// Of all segment files, in bytes, space reserved ahead included.
  std::uint64_t bytes_on_disk = 0;
  /// Of the records placed so far: [first_sequence, next_sequence).
  Sequence first_sequence = 0;
  Sequence next_sequence = 0;
  /// Everything before it is durable.
  Sequence durable_sequence = 0;
  /// 0 when there is no ring.
  std::uint64_t ring_bytes = 0;
  /// Bytes in the ring that are not in their segment yet.
  std::uint64_t ring_bytes_used = 0;
  /// How segments are written: `direct` or `buffered`.
  IoMode io = IoMode::buffered;
  /// Why that was chosen, in words.
  std::string io_reason;
  /// Where the newest bytes live: "mapped ring", or "segment" and why.
  std::string ring_reason;
  /// What a durable flush is padded to, in bytes.
  std::uint64_t block_bytes = 0;
  // What follows is counted since this opening, in this process; docs/watching.md says more.
  /// Calls that appended something. A batch is one.
  std::uint64_t appends = 0;
  std::uint64_t records_appended = 0;
  /// Of their frames, headers included.
  std::uint64_t bytes_appended = 0;
  /// Of frames without records: what fills blocks up, and what ends a segment.
  std::uint64_t bytes_padding = 0;
  /// For durability.
  std::uint64_t flushes = 0;
  std::uint64_t rotations = 0;
  /// How often an append found the ring full.
  std::uint64_t ring_waits = 0;
  /// Those that took longer than WalOptions::slow_sync.
  std::uint64_t slow_syncs = 0;
  /// What EventListener::on_event() threw.
  std::uint64_t listener_exceptions = 0;
  /// What callbacks of when_durable threw.
  std::uint64_t callback_exceptions = 0;
  /// Callbacks of when_durable that were not called yet.
  std::uint64_t callbacks_pending = 0;
  /// Events that found too many others waiting for the listener.
  std::uint64_t events_dropped = 0;
  /// What reading and recovering the log took when it was opened.
  std::chrono::microseconds recovery_time{0};
  /// From the call of `append` to its return, durability included where it is asked for. Of each
  /// 64th that succeeded, from the first on: to look at the clock is a good part of an append.
  LatencyHistogram append_latency;
  /// How long appends that found the ring full waited for room. All of them.
  LatencyHistogram ring_wait_latency;
  /// How long calls that found something not yet durable waited for it, with success. All of them.
  LatencyHistogram durable_wait_latency;
  /// Of flushes for durability that succeeded: from the padding to the durable mark. All of them.
  LatencyHistogram flush_latency;
  /// Of every sync of a file or directory and every write that carries itself to the disk, whatever
  /// came of it, that the log made since its first append.
  LatencyHistogram sync_latency;
  /// Who keeps which segments from being deleted. Readers count for retention only.
  std::vector<Hold> holds;
  /// Deleted by retention, and by hand.
  std::uint64_t segments_deleted = 0;
  /// Why retention in the background got no further when it was last tried. It is tried again.
  std::optional<Error> retention_failure;
  /// Why compaction in the background got no further when it was last tried.
  std::optional<Error> compaction_failure;
  /// The log takes no appends, and why.
  std::optional<Error> failure;
};

/// A record as read, owning its bytes.
struct OwnedEntry;

/// A record as read. Views stay valid until the reader's next step.
struct Entry {
  Sequence sequence = 0;
  Epoch epoch;
  Position position;
  /// Behind this record: where reading goes on.
  Position end;
  /// When the record was appended, by the writer's clock; never lower than its predecessor's.
  TimePoint time;
  Operation op = Operation::put;
  std::string_view key;
  std::string_view value;
  std::optional<TimePoint> expires_at;
  /// Whether this is the last record of what was appended in one call.
  bool ends_batch = false;

  /// The same, with bytes of its own.
  [[nodiscard]] OwnedEntry copy() const;
};

struct OwnedEntry {
  Sequence sequence = 0;
  Epoch epoch;
  Position position;
  Position end;
  TimePoint time;
  Operation op = Operation::put;
  std::string key;
  std::string value;
  std::optional<TimePoint> expires_at;
  bool ends_batch = false;
};

/// The first record left.
struct Begin {};
inline constexpr Begin begin_of_log{};

/// A place as people write it, SEGMENT:OFFSET: looked up by reading the frame that begins there.
struct FramePlace {
  std::uint64_t segment_id = 0;
  std::uint64_t offset = 0;
};

/// Where a reader begins.
using ReadFrom = std::variant<Begin, Position, Sequence, TimePoint, FramePlace>;

/// Which records a reader sees.
enum class Visible : std::uint8_t {
  appended,  ///< Everything appended before the call.
  durable,   ///< Only what no crash can take back.
};

struct ReadOptions {
  Visible visible = Visible::appended;
  /// After `next` has answered `damaged`, go on with the next good frame behind the damage instead
  /// of answering the same again.
  bool skip_damaged = false;
};

/// Walks the log from a place on, over all segments and the ring, beside a live writer or without
/// one. A deleted segment stays readable to a reader that is in it.
///
/// Threads: one at a time; any number of readers. Lifetime: may outlive its Wal.
class Reader {
 public:
  Reader(Reader&&) noexcept;
  Reader& operator=(Reader&&) noexcept;
  ~Reader();

  /// The next record, or nothing at the end of what is there now; asking again later may find more.
  ///
  /// Errors: `damaged`: the place, and what was found there; what was returned before stands.
  ///         `gone`: the segment was deleted before the reader came to it. `io`. `closed`: this
  ///         process is a fork of the one that opened the log.
  [[nodiscard]] Result<std::optional<Entry>> next();

  /// Waits until there is a next record, `timeout` at most. True if there is one.
  [[nodiscard]] Result<bool> follow(std::chrono::milliseconds timeout);

  /// Behind the last record returned: a Reader from here goes on with the next one.
  [[nodiscard]] Position position() const noexcept;

  /// For `for (auto& entry : reader)`: each step is a `Result<Entry>`; an error is the last step.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Result<Entry>;
    using difference_type = std::ptrdiff_t;
    using pointer = const value_type*;
    using reference = const value_type&;

    Iterator() = default;
    explicit Iterator(Reader* reader) : reader_(reader) { ++*this; }
    const Result<Entry>& operator*() const { return current_; }
    const Result<Entry>* operator->() const { return &current_; }
    Iterator& operator++();
    void operator++(int) { ++*this; }
    friend bool operator==(const Iterator& it, std::default_sentinel_t) {
      return it.reader_ == nullptr;
    }

   private:
    Reader* reader_ = nullptr;
    Result<Entry> current_;
  };
  [[nodiscard]] Iterator begin() { return Iterator{this}; }
  [[nodiscard]] static std::default_sentinel_t end() { return {}; }

  class Impl;
  explicit Reader(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

struct Opened;
struct LogAccess;
class Consumer;
struct ConsumerOptions;
struct ConsumerInfo;

/// Is called when something has become durable, or with why it has not.
using DurableCallback = std::move_only_function<void(const Result<void>&)>;

/// An append-only, crash-safe log of records in one directory.
///
/// Threads: any member from any thread, close() and destruction apart. Appends are ordered by the
/// Position they return; concurrent ones share flushes.
/// After fork() the child's Wal is unusable: every call answers `closed`, and what cannot answer so
/// a default value.
/// Failure: after a failed write or sync the log takes no more appends and says why on every call;
/// everybody waiting is woken and told. Reopening decides from the disk what is there.
/// Memory: a call may throw std::bad_alloc, the destructor does not. What it was to append is then
/// there in full or not at all; a log that was to be closed is released, and opening it recovers.
/// Limits: one process writes at a time. A frame (a batch, encoded) is at most 4 GiB and 2^28 - 1
/// records.
class Wal {
 public:
  /// Opens the log in `options.directory`, recovering what an earlier opening left.
  ///
  /// On return the log holds a prefix of what was ever appended, everything durable included, and
  /// (unless read-only) all of it is durable.
  ///
  /// Errors: `not_a_log`, `invalid_argument`, `permission`, `unsupported_version`: nothing changed.
  ///         `locked`: names the holder. `damaged`: durable data is missing or altered; nothing
  ///         was changed; open read-only to read up to the damage. `io`: try again.
  /// A disk that is too full to open for writing is no error here: appends answer `no_space`.
  [[nodiscard]] static Result<Opened> open(WalOptions options);

  Wal(Wal&&) noexcept;
  Wal& operator=(Wal&&) noexcept;
  /// Closes, and drops the error if there is one: call close() to see it.
  ~Wal();

  /// Appends one record. Returns when it is as durable as the policy, or `durability`, promises.
  /// Readers may see it earlier.
  ///
  /// Errors: `too_large`, `closed`, `invalid_argument` (read-only): nothing was appended.
  ///         `no_space` without a position: nothing was appended; works again when there is room.
  ///         `no_space` with one: appended, not durable. `io`, with one if it was appended: whether
  ///         it survives is unknown; the log takes no more appends until it is reopened.
  [[nodiscard]] Result<Appended> append(const Record& record,
                                        Durability durability = Durability::policy);
  /// Appends all of `batch` as one: after a crash all of it is there, or none. An empty batch is
  /// `invalid_argument`. Otherwise as above.
  [[nodiscard]] Result<Appended> append(const Batch& batch,
                                        Durability durability = Durability::policy);

  /// Like append, but answers `busy` where that would wait for room in the ring. Waiting for
  /// durability is not affected.
  [[nodiscard]] Result<Appended> try_append(const Record& record,
                                            Durability durability = Durability::policy);
  [[nodiscard]] Result<Appended> try_append(const Batch& batch,
                                            Durability durability = Durability::policy);

  /// On return everything appended through this Wal before the call is durable.
  [[nodiscard]] Result<void> sync();

  /// On return everything before `position` is durable. Beyond the end: `invalid_argument`; so also
  /// read-only, where it is not durable yet.
  [[nodiscard]] Result<void> wait_durable(const Position& position);

  /// Asks for a flush, and has `callback` called when everything before `position` is durable, or
  /// with the error when that failed: `no_space`: not yet durable; `io`: as from append. Thousands
  /// may be under way from one thread: while one flush is at work, the next callbacks gather.
  ///
  /// Callbacks run one at a time on a thread of the log's own, which begins with the first of them,
  /// in the order of their positions and without a lock of the log. Each is called exactly once, by
  /// close() and destruction at the latest. They may append, register others and read, not close
  /// or destroy the log. What they throw is counted in WalStats::callback_exceptions.
  ///
  /// 65,536 may be pending; then registering waits for room, and answers `would_block` within a
  /// callback. On an error here `callback` is never called: `invalid_argument`: beyond the end;
  /// `would_block`; `closed`; `io`: no thread could be started.
  [[nodiscard]] Result<void> when_durable(const Position& position, DurableCallback callback);

  /// Behind the last record appended.
  [[nodiscard]] Position current_position() const;
  /// Behind the last record known to be durable.
  [[nodiscard]] Position durable_position() const;

  /// Rewrites sealed segments to what is still wanted of them, several into one file where they
  /// have become small. Appends, readers and followers go on meanwhile: sequences stay, and a
  /// reader by position, sequence or time finds its place, or the next record left. Whole files at
  /// a time; the active segment is left alone, and so is what would not become smaller. One at a
  /// time: another call waits.
  ///
  /// Errors: `damaged`: a place among them is bad, names it. `no_space`, `io`: each file is as it
  ///         was, or replaced as a whole; the log goes on. `invalid_argument` (read-only).
  [[nodiscard]] Result<CompactionReport> compact(const CompactionOptions& options = {});

  /// Ends the active segment and begins the next. Nothing happens where it holds no record yet.
  [[nodiscard]] Result<void> rotate();

  /// Deletes the segments whose last record lies before `position`, oldest first, never the active
  /// one, and returns how many. What lies before `position` is made durable first. What a consumer
  /// has not committed yet stays; of readers nothing is asked. A failure leaves the rest of the log
  /// as it was: a suffix. `locked`: another process is making a cursor and does not come to an end;
  /// the message names it.
  [[nodiscard]] Result<std::uint64_t> delete_segments_before(const Position& position);

  /// Deletes what WalOptions::retention says, or `policy`, as it is done in the background, and
  /// returns how many segments. Errors as delete_segments_before.
  [[nodiscard]] Result<std::uint64_t> apply_retention();
  [[nodiscard]] Result<std::uint64_t> apply_retention(const RetentionPolicy& policy);

  /// What delete_segments_before or apply_retention would delete now, readers not asked.
  struct Deletable {
    std::uint64_t segments = 0;
    std::uint64_t bytes = 0;
    /// What the first record left would be.
    Sequence first_sequence = 0;
  };
  [[nodiscard]] Result<Deletable> deletable_before(const Position& position) const;
  [[nodiscard]] Result<Deletable> deletable_by(const RetentionPolicy& policy) const;

  /// The consumer of that name, which reads from where it last committed; nori/consumer.h. With
  /// a read-only Wal too: that writes into cursors/, beside a writer in another process.
  ///
  /// Errors: `locked`: somebody has it; the message names who. `invalid_argument`: no name for a
  ///         consumer, or a start beyond the end. `gone`: what it would read next was deleted.
  ///         `damaged`, `unsupported_version`: its cursor cannot be read. `permission`, `no_space`,
  ///         `io`: it could not be written.
  [[nodiscard]] Result<Consumer> consumer(std::string_view name);
  [[nodiscard]] Result<Consumer> consumer(std::string_view name, const ConsumerOptions& options);
  /// All there are, by name.
  [[nodiscard]] Result<std::vector<ConsumerInfo>> consumers() const;
  /// Forgets a consumer: it holds back nothing any more. Durable on return. `gone`: there is none
  /// of that name; `locked`: somebody has it.
  [[nodiscard]] Result<void> drop_consumer(std::string_view name);

  /// Of the first record appended at `time` or later; the end if there is none.
  [[nodiscard]] Result<Position> position_at(TimePoint time) const;

  /// A reader from a place on. `Begin` and a time start at the first record left. A sequence before
  /// that is `gone`. A FramePlace where no frame begins is `not_a_record`.
  [[nodiscard]] Result<Reader> read_from(ReadFrom from, ReadOptions options = {}) const;

  [[nodiscard]] WalStats stats() const;

  /// Makes everything durable, ends the log with a close frame and releases it. Afterwards every
  /// call answers `closed`, and the positions are those that open() found. On an error the log is
  /// released all the same, and opening it recovers. Within a callback of when_durable it is
  /// `invalid_argument`, and nothing happens.
  [[nodiscard]] Result<void> close();

  class Impl;
  explicit Wal(std::shared_ptr<Impl> impl);

 private:
  friend struct LogAccess;
  void finish() noexcept;

  std::shared_ptr<Impl> impl_;
};

/// A log, and what opening it found.
struct Opened {
  Wal wal;
  RecoveryInfo recovery;
};

}  // namespace nori
