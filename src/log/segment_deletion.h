// Deletes a log's oldest segments, as far as nobody needs them.

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "format/log_id.h"
#include "io/file_system.h"
#include "log/compaction.h"
#include "log/derived_places.h"
#include "log/guarded_clock.h"
#include "log/log_listing.h"
#include "log/reader_places.h"
#include "log/snapshot_turn.h"
#include "nori/error.h"
#include "nori/options.h"
#include "nori/wal.h"
#include "observe/observer.h"

namespace nori {

/// Consumers of this process, to be told that their cursor was dropped.
///
/// Threads: any.
class DropNotices {
 public:
  /// Becomes true when the consumer's cursor is dropped.
  [[nodiscard]] std::shared_ptr<std::atomic<bool>> add(const std::string& name);
  void dropped(const std::string& name);

 private:
  std::mutex mutex_;
  std::map<std::string, std::weak_ptr<std::atomic<bool>>> notices_;
};

/// Oldest first, the directory synced after each, so that what is left is always a suffix; never
/// the active segment. In the order that cursor/cursor_files.h gives for cursors.
///
/// Threads: any. Lifetime: the objects referred to outlive it.
class SegmentDeletion {
 public:
  SegmentDeletion(io::FileSystem& file_system, io::Directory& directory, const LogId& log_id,
                  std::uint64_t newest_time_ms, std::shared_ptr<Observer> observer)
      : readers(std::make_shared<ReaderPlaces>(file_system)),
        file_system_(file_system),
        directory_(directory),
        log_id_(log_id),
        observer_(std::move(observer)),
        clock_(newest_time_ms, GuardedClock::Running::now()) {}

  /// What one call deletes.
  struct Request {
    std::uint64_t active_segment_id = 0;
    /// Deleted are segments whose records all lie before it; nothing: as `policy` says.
    std::optional<Sequence> before = std::nullopt;
    RetentionPolicy policy = {};
    /// What lies before could not be made durable: only segments that have a footer go, and this is
    /// answered when there are others.
    std::optional<Error> not_durable = std::nullopt;
    /// Stops after so many, to be called again.
    std::uint64_t segments_max = 0;
    /// How long to wait for who makes a cursor; then `locked`.
    std::chrono::milliseconds lock_timeout{0};
  };
  struct Done {
    std::uint64_t segments = 0;
    std::uint64_t bytes = 0;
    Sequence end_sequence = 0;  ///< Behind the last record of the last one.
    bool there_is_more = false;
  };
  /// On an error what was deleted before stays so.
  [[nodiscard]] Result<Done> run(const Request& request);

  /// How many segments were deleted since the last call, those before an error included.
  [[nodiscard]] std::uint64_t take_count() { return count_.exchange(0); }

  /// Behind the last record of the last one deleted.
  [[nodiscard]] Sequence deleted_before() const { return deleted_before_.load(); }

  /// What a request would delete now; changes nothing.
  [[nodiscard]] Result<Done> plan(const Request& request);

  /// Who holds back segments, and how much, as it is now.
  [[nodiscard]] std::vector<Hold> holds(std::uint64_t active_segment_id);

  /// Names of segments are removed with it held.
  [[nodiscard]] std::mutex& mutex() noexcept { return mutex_; }

  /// How far consumers and snapshots let a compaction go. With mutex(). What it goes by is durable
  /// on return.
  [[nodiscard]] Result<CompactionLimits> compaction_limits();

  /// Takes the turn to write a snapshot: from then on nothing is deleted from `at` on. False if
  /// another one is being written.
  [[nodiscard]] bool take_snapshot_turn(Sequence at);

  /// By the clock that starts at the log's newest frame.
  [[nodiscard]] std::uint64_t now_ms();

  /// Reports cursors that cannot be read, each once.
  void report_unreadable(const std::vector<DerivedPlace>& places);

  const std::shared_ptr<ReaderPlaces> readers;
  const std::shared_ptr<SnapshotTurn> snapshot = std::make_shared<SnapshotTurn>();
  const std::shared_ptr<DropNotices> drops = std::make_shared<DropNotices>();

 private:
  // A segment that may be deleted, as far as the request goes.
  struct Candidate {
    SegmentFile file;
    std::uint64_t bytes = 0;
    Sequence end_sequence = 0;  ///< Behind its last record.
  };

  struct Candidates {
    std::vector<Candidate> wanted;  ///< Oldest first.
    bool unsealed_follows = false;  ///< One without a footer, where that is asked for.
  };

  [[nodiscard]] Result<Candidates> candidates(const Request& request);
  [[nodiscard]] Result<void> drop_laggards(std::vector<DerivedPlace>& places,
                                           const std::vector<Candidate>& candidates,
                                           io::Directory& cursors);
  [[nodiscard]] Result<void> remove_unneeded(const Request& request,
                                             const std::vector<Candidate>& wanted, Done& done);
  [[nodiscard]] Result<void> remove(const Candidate& candidate, Done& done);

  io::FileSystem& file_system_;
  io::Directory& directory_;
  const LogId log_id_;
  const std::shared_ptr<Observer> observer_;

  std::mutex mutex_;
  std::mutex clock_mutex_;
  GuardedClock clock_;                  ///< Guarded by clock_mutex_.
  bool deletions_are_durable_ = false;  ///< Those of earlier openings too.

  std::atomic<std::uint64_t> count_{0};
  std::atomic<Sequence> deleted_before_{0};

  std::mutex told_mutex_;
  std::set<std::string> told_unreadable_;
};

}  // namespace nori
