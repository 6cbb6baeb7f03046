#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nori/compression.h"
#include "nori/error.h"
#include "nori/options.h"
#include "nori/position.h"
#include "nori/record.h"
#include "nori/wal.h"

namespace nori {

/// What a snapshot holds of one key: views, of what is given to SnapshotWriter::add() or returned
/// by a reader.
struct SnapshotEntry {
  std::string_view key;
  std::string_view value;
  /// Of the record that gave the key this value: together its version.
  Epoch epoch = {};
  Sequence sequence = 0;
  std::optional<TimePoint> expires_at = std::nullopt;
};

/// A file in `snapshots/`, as far as its header and footer tell.
struct SnapshotFile {
  /// `snapshots/` apart.
  std::string name;
  /// By its name: it holds what the records before this one made.
  Sequence sequence = 0;
  std::uint64_t bytes = 0;
  /// Whether header and footer are whole, belong to each other and to this name. What lies between
  /// them was not read: see verify_snapshots().
  bool valid = false;
  /// Why it is not valid, in words.
  std::string reason;
  /// Whose log it is a snapshot of, if its header is whole.
  std::optional<std::array<std::byte, 16>> log_id;
  // Only of valid ones:
  /// Of the last record before `sequence`; 0 if that was not in the log any more, or never.
  Epoch epoch;
  TimePoint created;
  std::uint64_t entries = 0;
  /// Of all entries as they were before compression.
  std::uint64_t plain_bytes = 0;
};

struct SnapshotOptions {
  /// A block that does not shrink by an eighth is stored plain whatever is asked for, and so are
  /// the seven behind it, untried.
  Compression compression = Compression::lz4;
  /// Entries are compressed, checked and read in blocks of about this size; a larger entry has one
  /// of its own. 1 KiB to 1 MiB.
  std::uint64_t block_bytes = 64 * kKiB;
  /// How many valid snapshots finish() leaves, the new one included. At least 1.
  std::uint32_t retain = 2;
};

/// What SnapshotWriter::finish() did.
struct SnapshotWritten {
  SnapshotFile file;
  /// Older snapshots that went, by name.
  std::vector<std::string> removed;
  /// Why not all went that should have. They go with the next snapshot; the new one is there.
  std::optional<Error> not_removed;
};

/// Writes a snapshot: what the records before a place of the log made of some state, as entries
/// sorted by key. It is written aside, synced, renamed and its directory synced, so that a crash
/// leaves it whole or not at all, and the one before in any case.
///
/// Threads: one at a time. Lifetime: ends before its Wal is closed.
/// One that is destroyed before finish() leaves nothing; a process that dies may leave
/// `snapshots/next.tmp`, which the next begin() replaces.
/// Memory: two blocks, a mebibyte, and the index: for each block as many bytes of its first key as
/// tell it from the last key before it.
class SnapshotWriter {
 public:
  /// Begins the snapshot of what the records before `at` made. On return they are durable. Until it
  /// is finished or destroyed nothing is deleted from `at` on, and no compaction drops a tombstone;
  /// one that was dropped between `at` and this call is missing to whoever goes on from the
  /// snapshot, so `at` is best the log's end.
  ///
  /// Errors: `invalid_argument`: `at` lies beyond the log's end, before the first record left or
  ///         before a valid snapshot, the log is read-only, an option is out of range. `busy`:
  ///         another one is being written. `no_space`, `io`, `closed`, as from Wal::wait_durable()
  ///         or the disk.
  /// None of them changes an older snapshot.
  [[nodiscard]] static Result<SnapshotWriter> begin(Wal& wal, const Position& at,
                                                    SnapshotOptions options = {});

  SnapshotWriter(SnapshotWriter&&) noexcept;
  SnapshotWriter& operator=(SnapshotWriter&&) noexcept;
  ~SnapshotWriter();

  /// Adds an entry, whose bytes are copied.
  ///
  /// Errors: `invalid_argument`: its key is not above the one before, or its sequence not below the
  ///         snapshot's; `too_large`: key and value together are 4 GiB or more. Nothing was done.
  ///         `no_space`, `io`: nothing is left of it on the disk, every further call answers the
  ///         same.
  [[nodiscard]] Result<void> add(const SnapshotEntry& entry);

  /// Makes the snapshot durable under its name, then removes those that `retain` leaves out, oldest
  /// first. A snapshot of the same sequence is replaced.
  ///
  /// Errors: `no_space`, `io` as above; after a failed sync of the directory the snapshot has its
  ///         name, and whether a power cut takes it is unknown. No older one was removed.
  ///         `closed`: it was finished before.
  [[nodiscard]] Result<SnapshotWritten> finish();

  class Impl;
  explicit SnapshotWriter(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

struct OpenedSnapshot;

struct SnapshotReadOptions {
  /// Only this one.
  std::optional<Sequence> at = std::nullopt;
  /// Only those of a lower sequence: to go on with where one turned out to be bad while it was
  /// read.
  std::optional<Sequence> before = std::nullopt;
  /// Read all of it before it is opened; else its blocks are checked as they are read.
  bool verify = false;
  /// nullptr is the operating system's.
  io::FileSystem* file_system = nullptr;
};

/// Reads a snapshot in the order of its keys, or looks for single ones. Every byte is checked
/// before it is returned.
///
/// Threads: one at a time; readers made by split() are each other's equals. Lifetime: independent
/// of the log; a snapshot stays readable after it was removed. Memory: the index, one block as
/// stored, and the same block decompressed. Never more than the file's size and 16 MiB.
class SnapshotReader {
 public:
  /// Opens the newest valid snapshot of the log in `log_directory`; a bad one falls back to the one
  /// before. Changes nothing on disk; works beside a live writer.
  ///
  /// Errors: `not_a_log`, `permission`, `io`. `unsupported_version`: the newest was written by a
  ///         newer version of this library.
  [[nodiscard]] static Result<OpenedSnapshot> open(const std::filesystem::path& log_directory,
                                                   const SnapshotReadOptions& options = {});

  SnapshotReader(SnapshotReader&&) noexcept;
  SnapshotReader& operator=(SnapshotReader&&) noexcept;
  ~SnapshotReader();

  /// What it is a snapshot of, and how much there is.
  [[nodiscard]] const SnapshotFile& file() const noexcept;

  /// The next entry, or nothing behind the last. Its views are valid until the next call.
  ///
  /// Errors: `damaged`, naming the place: what was returned before stands; asking again answers the
  ///         same. `io`.
  [[nodiscard]] Result<std::optional<SnapshotEntry>> next();

  /// next() returns the first entry whose key is `key` or above.
  [[nodiscard]] Result<void> seek(std::string_view key);

  /// The entry of `key`, if there is one; next() goes on behind it. Reads one block.
  [[nodiscard]] Result<std::optional<SnapshotEntry>> get(std::string_view key);

  /// Readers of consecutive parts of about equal size, in the order of their keys: together they
  /// return every entry once, whatever this one has returned. For several threads.
  [[nodiscard]] std::vector<SnapshotReader> split(std::size_t parts) const;

  class Impl;
  explicit SnapshotReader(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

/// A snapshot that was passed over.
struct SkippedSnapshot {
  std::string name;
  Sequence sequence = 0;
  std::string reason;
};

struct OpenedSnapshot {
  /// Nothing where no snapshot is valid, or there is none.
  std::optional<SnapshotReader> reader;
  /// Newest first.
  std::vector<SkippedSnapshot> skipped;
};

/// The snapshots of the log in `log_directory`, oldest first, the bad ones too. One of another log
/// is not valid. Reads headers and footers; changes nothing; works beside a live writer.
///
/// Errors: `not_a_log`, `permission`, `io`.
[[nodiscard]] Result<std::vector<SnapshotFile>> list_snapshots(
    const std::filesystem::path& log_directory, io::FileSystem* file_system = nullptr);

/// The same, but reads and checks every byte: what is valid then is so in full.
[[nodiscard]] Result<std::vector<SnapshotFile>> verify_snapshots(
    const std::filesystem::path& log_directory, io::FileSystem* file_system = nullptr);

}  // namespace nori
