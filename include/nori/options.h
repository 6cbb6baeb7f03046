#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>

#include "nori/background_threads.h"
#include "nori/compression.h"
#include "nori/events.h"
#include "nori/position.h"

namespace nori {

namespace io {
class FileSystem;
}  // namespace io

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;
inline constexpr std::uint64_t kGiB = 1024 * kMiB;

/// When an append becomes durable by itself, that is, survives the machine losing power. Under
/// every policy it survives the process dying once `append` has returned.
class FsyncPolicy {
 public:
  enum class Kind : std::uint8_t { always, batch, os };

  /// `append` returns durable; concurrent callers share flushes. Costs a disk write each.
  [[nodiscard]] static constexpr FsyncPolicy always() noexcept {
    return FsyncPolicy{Kind::always, {}};
  }
  /// A flush that covers an append starts at most `window` after it, also when no further append
  /// comes. The window is at most one minute.
  [[nodiscard]] static constexpr FsyncPolicy batch(
      std::chrono::milliseconds window = std::chrono::milliseconds{5}) noexcept {
    return FsyncPolicy{Kind::batch, window};
  }
  /// Durable when asked for: `sync`, `wait_durable`, rotation, deletion, close.
  [[nodiscard]] static constexpr FsyncPolicy os() noexcept { return FsyncPolicy{Kind::os, {}}; }

  [[nodiscard]] constexpr Kind kind() const noexcept { return kind_; }
  [[nodiscard]] constexpr std::chrono::milliseconds window() const noexcept { return window_; }

 private:
  constexpr FsyncPolicy(Kind kind, std::chrono::milliseconds window) noexcept
      : kind_(kind), window_(window) {}
  Kind kind_;
  std::chrono::milliseconds window_;
};

/// How a directory is opened.
enum class OpenMode : std::uint8_t {
  create,     ///< For writing; a missing or empty directory becomes a log.
  existing,   ///< For writing; a missing or empty directory is `not_a_log`.
  read_only,  ///< Changes nothing on disk, not even a lock; works beside a live writer.
};

/// How segments are written.
enum class IoMode : std::uint8_t {
  automatic,  ///< Direct where the filesystem takes it, else buffered. `stats()` says which.
  direct,     ///< Direct or an error; needs a ring.
  buffered,   ///< Through the page cache.
};

/// What a durable flush does with the rest of its last block.
enum class Padding : std::uint8_t {
  /// Fills it, so that a durable byte is never written again. Costs space at low rates.
  block,
  /// Leaves it, and writes the block again with the next flush. Saves space, and relies on the disk
  /// not to damage the rest of a sector when power fails within a write to it ("powersafe
  /// overwrite").
  none,
};

/// How much `open` reads.
enum class Verification : std::uint8_t {
  tail,  ///< What a crash can have touched; nothing after a clean close.
  all,   ///< Every byte of every segment.
};

/// What a single append asks for. It can ask for more than the policy, never for less.
enum class Durability : std::uint8_t {
  policy,   ///< As the FsyncPolicy says.
  durable,  ///< The append returns durable.
};

/// How far recovery has come: bytes read, and bytes there are to read.
struct RecoveryProgress {
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_total = 0;
};

/// What of a log is old enough, or too much, to go: whole segments, oldest first, never the active
/// one; never what a consumer has not committed yet, nor what a reader of this process still needs.
struct RetentionPolicy {
  /// Segments whose last record is older. By a clock that starts at the newest record found at open
  /// and follows the wall clock by at most a day per hour of running, so that a clock that jumps
  /// deletes nothing. Zero: any age stays.
  std::chrono::milliseconds max_age{0};
  /// Of all segments' files together, the active one and space reserved ahead included. Zero: any
  /// size stays.
  std::uint64_t max_bytes = 0;
};

/// When sealed segments are compacted without being asked; see Wal::compact().
struct CompactionPolicy {
  /// When so much of their bytes is garbage; 0: never. How much that is takes reading them: each
  /// time they have grown so far that it could be that much.
  double garbage_ratio = 0;
  /// And nothing was appended for so long.
  std::chrono::milliseconds idle{0};
  /// As in CompactionOptions.
  std::uint64_t bytes_per_second = 64 * kMiB;
  std::uint64_t memory_bytes = 64 * kMiB;
};

/// How to open a log.
struct WalOptions {
  /// Holds the log and nothing else. One process writes to it at a time.
  std::filesystem::path directory = {};

  OpenMode mode = OpenMode::create;

  FsyncPolicy fsync = FsyncPolicy::batch();

  /// A new segment starts before the current one would outgrow this size. Batches are never split,
  /// so a larger one gets a segment of its own. 64 KiB to 4 GiB.
  std::uint64_t segment_bytes = 128 * kMiB;

  /// The newest bytes of the log live in a ring of this size, mapped shared, so that they survive
  /// the process; it bounds the log's memory. 64 KiB to 1 GiB, rounded up to a power of two and
  /// limited to the largest power of two within segment_bytes. `kNoRing`: every append is a write
  /// to the segment instead.
  std::uint64_t ring_bytes = 16 * kMiB;
  static constexpr std::uint64_t kNoRing = 0;

  IoMode io = IoMode::automatic;

  Padding padding = Padding::block;

  /// How values of at least `compress_from_bytes` bytes are stored, unless a record says otherwise.
  /// They are compressed by the appending thread, before it waits for anybody.
  Compression compression = Compression::none;
  std::uint64_t compress_from_bytes = 256;

  /// Applied when a segment is full and once a minute, in the background; see
  /// Wal::apply_retention(). By default everything stays.
  RetentionPolicy retention = {};

  /// In the background, on a thread of the log's own. By default never.
  CompactionPolicy compaction = {};

  Verification verification = Verification::tail;

  /// Called while `open` reads the log, from the opening thread.
  std::function<void(const RecoveryProgress&)> on_recovery_progress = {};

  /// Is told what happens in the log; nullptr is nobody. See EventListener for threads and rules.
  std::shared_ptr<EventListener> listener = nullptr;

  /// A sync that takes longer is an event, and counted in WalStats::slow_syncs.
  std::chrono::milliseconds slow_sync{1000};

  /// What the log's files live on; nullptr is the operating system's. Must outlive the log. The
  /// simulated disk of nori_testing is the other one.
  io::FileSystem* file_system = nullptr;

  /// Whether something writes behind, keeps space ready and keeps the `batch` window in the
  /// background, applies `retention` and writes what consumers commit. Without it callers do that
  /// work when they need it, `batch` waits for a sync, retention for apply_retention() and commits
  /// for Consumer::flush(). For simulations that must be deterministic.
  bool background_thread = true;

  /// The threads that do so, for programs with many logs; nullptr is one thread of the log's own.
  std::shared_ptr<BackgroundThreads> background = nullptr;
};

}  // namespace nori
