// An ordered map in memory over a log: what is written survives, what is read never touches a disk.
//
//   auto opened = nori::Store::open({.wal = {.directory = "db"}});
//   auto& store = opened->store;
//   store.put("user/7", "Ada");
//   if (auto found = store.get("user/7"); *found) {
//     use((*found)->value());
//   }
//   auto scan = store.scan({.prefix = "user/"});
//   while (auto entry = scan->next()) {
//     use(entry->key, entry->value);
//   }

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nori/consumer.h"
#include "nori/error.h"
#include "nori/options.h"
#include "nori/position.h"
#include "nori/record.h"
#include "nori/snapshot.h"
#include "nori/wal.h"

namespace nori {

class Item;

/// Which record gave a key its value. No other record ever has the same.
struct Version {
  Epoch epoch;
  Sequence sequence = 0;

  friend constexpr bool operator==(const Version&, const Version&) noexcept = default;
};

/// What a store has of a key. Views: StoredValue and Scan say how long.
struct StoreEntry {
  std::string_view key;
  std::string_view value;
  Version version;
  std::optional<TimePoint> expires_at;
};

/// An entry that stays what it is, whatever is written to its key, and when the store is closed.
/// Threads: as a std::shared_ptr.
class StoredValue {
 public:
  [[nodiscard]] std::string_view key() const noexcept;
  [[nodiscard]] std::string_view value() const noexcept;
  [[nodiscard]] Version version() const noexcept { return version_; }
  [[nodiscard]] std::optional<TimePoint> expires_at() const;

  StoredValue(const StoredValue& other) noexcept;
  StoredValue(StoredValue&& other) noexcept;
  StoredValue& operator=(StoredValue other) noexcept;
  ~StoredValue();

 private:
  friend class Store;
  StoredValue(Item* item, Version version) noexcept : item_(item), version_(version) {}

  Item* item_;
  Version version_;
};

/// What a write placed in the log.
struct Written {
  /// Of its last record. A batch's records have the versions before it, in their order.
  Version version;
  /// Behind it: Store::wait_durable(end) waits for it.
  Position end;
};

struct WriteOptions {
  /// From then on the key is gone, by the clock of StoreOptions. Only of puts.
  std::optional<TimePoint> expires_at = std::nullopt;
  /// It can ask for more than the log's policy, never for less.
  Durability durability = Durability::policy;
};

/// Which part of the keys, and in which order.
struct ScanOptions {
  /// Only keys that begin so.
  std::string_view prefix = {};
  /// Only keys from `from` on, and only those before `to`.
  std::string_view from = {};
  std::optional<std::string_view> to = std::nullopt;
  /// At most so many; 0: all.
  std::uint64_t limit = 0;
  /// From the last to the first.
  bool reverse = false;
};

/// Entries in the order of their keys, as they were at one moment.
///
/// Threads: one at a time. Lifetime: may outlive the store. As long as there is one, what it can
/// still come to takes memory, also where it was overwritten.
class Scan {
 public:
  Scan(Scan&&) noexcept;
  Scan& operator=(Scan&&) noexcept;
  ~Scan();

  /// The next entry, or nothing. Its views are valid as long as the Scan.
  [[nodiscard]] std::optional<StoreEntry> next();

  class Impl;
  explicit Scan(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

/// All of a store as it was at one moment.
///
/// Threads: any. Lifetime and memory: as a Scan.
class StoreView {
 public:
  /// Its views are valid as long as this.
  [[nodiscard]] std::optional<StoreEntry> get(std::string_view key) const;
  [[nodiscard]] Scan scan(const ScanOptions& options = {}) const;
  /// It holds what the records before this one made.
  [[nodiscard]] Sequence sequence() const noexcept;

  class Impl;
  explicit StoreView(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<const Impl> impl_;
};

/// When checkpoints are made without being asked.
struct CheckpointPolicy {
  /// When the log behind the newest one holds so many times as many bytes of garbage as the store
  /// has of keys and values, at least. 0: never.
  double garbage_ratio = 1;
  /// And has grown by so much since.
  std::uint64_t log_bytes_min = 64 * kMiB;
  /// Whether the segments go that no kept snapshot needs any more.
  bool delete_segments = true;
};

struct StoreOptions {
  /// The log below. Without RetentionPolicy: a store's log goes by its snapshots. Its listener may
  /// read the store; it is called with locks held, so it may not write to it, checkpoint or close
  /// it.
  WalOptions wal = {};

  /// How snapshots are written, and how many are kept.
  SnapshotOptions snapshots = {};

  /// In the background, on a thread of the store's own.
  CheckpointPolicy checkpoints = {};

  /// What entries and index may take; a put that would take more is `too_large`. Views, scans and
  /// StoredValues of what was overwritten since come on top. 0 is no limit.
  std::uint64_t memory_bytes_max = 0;

  /// By which clock keys expire; nothing is the file system's. It may not call the store.
  std::function<TimePoint()> clock = {};

  /// How many threads build the index when the store is opened; 0: as many as the machine has.
  unsigned open_threads = 0;
};

/// What opening a store found.
struct StoreRecovery {
  /// Of the log.
  RecoveryInfo log;
  /// The snapshot it began with: it holds what the records before this one made. Nothing: there was
  /// none, or none valid, and the log was read from its first record on.
  std::optional<Sequence> snapshot;
  std::uint64_t snapshot_entries = 0;
  /// Newer ones that were passed over, newest first.
  std::vector<SkippedSnapshot> skipped_snapshots;
  /// Records read from the log behind it.
  std::uint64_t records_replayed = 0;
  std::chrono::microseconds time_taken{0};
};

struct CheckpointReport {
  /// The snapshot: it holds what the records before this one made.
  Sequence sequence = 0;
  std::uint64_t entries = 0;
  /// Of the snapshot's file.
  std::uint64_t bytes = 0;
  std::uint64_t snapshots_removed = 0;
  std::uint64_t segments_deleted = 0;
  /// Why older snapshots or segments that should have gone are still there. The next one tries
  /// again; the new snapshot is there.
  std::optional<Error> not_removed;
};

struct StoreStats {
  std::uint64_t keys = 0;
  /// Of all keys and values.
  std::uint64_t key_bytes = 0;
  std::uint64_t value_bytes = 0;
  /// What entries and index take of the memory.
  std::uint64_t memory_bytes = 0;
  /// Of the newest snapshot, if there is one.
  std::optional<Sequence> snapshot;
  /// Written since this opening, by whoever asked.
  std::uint64_t checkpoints = 0;
  /// Of the records behind the newest snapshot: what opening would have to read.
  std::uint64_t log_bytes_behind = 0;
  /// Why the last checkpoint in the background failed. It is tried again.
  std::optional<Error> checkpoint_failure;
  WalStats log;
};

struct OpenedStore;

/// A map from keys to values, in the order of keys, that lives in memory and in a log. The log's
/// order is the map's, also when many threads write one key.
///
/// Threads: any member from any thread, close() and destruction apart. Reading waits for a write to
/// change the index, never for a disk. After fork() every call of the child's answers `closed`.
/// Durability: as the log's. What others read may not be durable yet; a write that returned
/// survives the process.
/// Failure: after a failed write or sync the log is read-only, and so is the store.
/// Memory: all of it. Per entry 20 bytes besides key and value (28 where it expires), rounded up to
/// steps of 16 with 8 of the allocator's, and about 19 of the index. A call may throw
/// std::bad_alloc: the log may have the write then, and the map not, or of a batch a part; writes
/// answer `io` until the store is opened again.
class Store {
 public:
  /// Opens the store in `options.wal.directory`: the newest valid snapshot, and what the log has
  /// behind it. A directory that is a log is a store; a new one is made unless the mode says
  /// otherwise. `read_only` shows what was there at this moment, beside a live writer.
  ///
  /// Errors: as Wal::open. `damaged`: also where the log begins behind what the newest valid
  ///         snapshot holds. `invalid_argument`: also with a RetentionPolicy.
  [[nodiscard]] static Result<OpenedStore> open(StoreOptions options);

  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;
  /// Closes, and drops the error if there is one: call close() to see it.
  ~Store();

  /// `key` has `value` on return, as durably as asked for.
  ///
  /// Errors: as Wal::append; `too_large` also where it would go beyond memory_bytes_max. With
  ///         `no_space` and a position it is written, and not durable; else nothing was written.
  ///         `io`: whether it survives is unknown.
  [[nodiscard]] Result<Written> put(std::string_view key, std::string_view value,
                                    const WriteOptions& options = {});
  /// `key` is gone on return. Errors as put().
  [[nodiscard]] Result<Written> remove(std::string_view key, const WriteOptions& options = {});
  /// All of `batch`, as one: nobody sees a part of it, and no crash leaves one. Its records may
  /// expire each on its own. Errors as put(); an empty one is `invalid_argument`.
  [[nodiscard]] Result<Written> write(const Batch& batch,
                                      Durability durability = Durability::policy);

  /// Puts, or removes, if the key's version is `expected`; without one, if the key is absent.
  /// Nothing where it is not: then nothing was done. Errors as put().
  [[nodiscard]] Result<std::optional<Written>> compare_and_set(std::string_view key,
                                                               std::optional<Version> expected,
                                                               std::string_view value,
                                                               const WriteOptions& options = {});
  [[nodiscard]] Result<std::optional<Written>> compare_and_remove(std::string_view key,
                                                                  std::optional<Version> expected,
                                                                  const WriteOptions& options = {});

  /// What `key` has, or nothing. Errors: `closed`.
  [[nodiscard]] Result<std::optional<StoredValue>> get(std::string_view key) const;
  [[nodiscard]] Result<bool> contains(std::string_view key) const;

  /// All of it, as it is now. Takes a reference; nothing is copied. Errors: `closed`.
  [[nodiscard]] Result<StoreView> view() const;
  /// Of view().
  [[nodiscard]] Result<Scan> scan(const ScanOptions& options = {}) const;

  /// What was written from record `from` on, and what comes: Reader::next and follow. `gone` where
  /// a checkpoint has made that superfluous: begin with a view, and go on from its sequence.
  [[nodiscard]] Result<Reader> subscribe(Sequence from, const ReadOptions& options = {}) const;

  /// On return everything written before the call is durable.
  [[nodiscard]] Result<void> sync();
  [[nodiscard]] Result<void> wait_durable(const Position& position);

  /// Writes a snapshot of the store as it is now, so that opening begins there, and removes the
  /// older ones that SnapshotOptions::retain leaves out. The log stays. Others read and write
  /// meanwhile. Keys that have expired, by a clock that a jump of the wall clock does not move
  /// (RetentionPolicy::max_age), are left out and forgotten. One at a time: another call waits.
  ///
  /// Errors: as SnapshotWriter's; each leaves the snapshots before.
  [[nodiscard]] Result<CheckpointReport> checkpoint();

  /// A checkpoint that is read back, and then all older snapshots and all segments before it go:
  /// what is left is one snapshot and what was written since. Nothing to fall back to, and the
  /// least space. Where nothing was written since the newest snapshot, that one is read back and
  /// kept.
  ///
  /// Errors: as checkpoint(); `damaged`: the new snapshot does not read as it was written: it was
  ///         removed again, and the others are as they were.
  [[nodiscard]] Result<CheckpointReport> compact();

  [[nodiscard]] StoreStats stats() const;

  /// A consumer of the log below; nori/consumer.h. Errors as Wal::consumer.
  [[nodiscard]] Result<Consumer> consumer(std::string_view name,
                                          const ConsumerOptions& options = {});

  /// The log below, to read and to ask. Not after close().
  [[nodiscard]] const Wal& log() const noexcept;

  /// Makes everything durable and releases the log. Afterwards every call answers `closed`; views,
  /// scans and values stay.
  [[nodiscard]] Result<void> close();

  class Impl;
  explicit Store(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

struct OpenedStore {
  Store store;
  StoreRecovery recovery;
};

}  // namespace nori
