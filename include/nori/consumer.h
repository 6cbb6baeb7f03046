// A named, durable place in a log, and a reader that goes on from there.
//
//   auto consumer = wal.consumer("billing");
//   while (auto entry = consumer->next(); entry && *entry) {
//     bill(**entry);
//     consumer->commit((*entry)->end);   // cheap; written within some 5 ms
//   }

#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "nori/error.h"
#include "nori/position.h"
#include "nori/record.h"
#include "nori/wal.h"

namespace nori {

/// Behind the last record that is there now.
struct End {};
inline constexpr End end_of_log{};

/// Where a consumer begins. A time is the first record appended then or later.
using ConsumerStart = std::variant<Begin, End, Position, Sequence, TimePoint>;

struct ConsumerOptions {
  /// Of a new consumer; one that is there goes on where it last committed.
  ConsumerStart from = begin_of_log;
  /// `durable`: what it has seen, no crash takes back.
  Visible visible = Visible::durable;
  /// What it may keep from being deleted, in bytes of segments, before it is dropped: 0 is any
  /// amount. Without a value it stays what it is, 0 for a new consumer.
  std::optional<std::uint64_t> max_lag_bytes = std::nullopt;
  /// Beside a writer in another process: how long a commit may wait for what it names to become
  /// durable, and whatever moves the cursor back for a deletion to end.
  std::chrono::milliseconds timeout{10'000};
};

/// How far a consumer is behind.
struct ConsumerLag {
  /// Not committed. With a read-only Wal: of those that are durable.
  std::uint64_t records = 0;
  /// In the segments' files, from the cursor on. With a read-only Wal space prepared ahead is
  /// included.
  std::uint64_t bytes = 0;
  /// How long ago the first of them was appended, by the wall clock; zero without one.
  std::chrono::milliseconds time{0};
};

/// A consumer, whoever has it.
struct ConsumerInfo {
  std::string name;
  /// Everything before it is done.
  Position position;
  TimePoint created;
  /// When it was last moved.
  TimePoint committed;
  /// 0: any amount.
  std::uint64_t max_lag_bytes = 0;
  /// Why its cursor cannot be read; then nothing else is known, and nothing is deleted.
  std::optional<Error> unreadable;
};

/// Reads a log at least once: what was read and not committed is read again by the next consumer of
/// this name, in whatever process. Nobody else has the name meanwhile. What is not committed is not
/// deleted.
///
/// Threads: next(), follow(), seek() and position() one at a time; commit(), flush(), committed()
/// and lag() from any thread.
/// Lifetime: may outlive its Wal, to commit what it has read; every other call then answers
/// `closed`. After fork() the child's Consumer is unusable, and its destructor does nothing.
/// Dropped: a consumer that held back more than its cap answers `gone` from then on; what comes
/// next is lost to it. Another process's writer may have dropped it: that is seen within some
/// 100 ms, and by whatever writes the cursor.
class Consumer {
 public:
  Consumer(Consumer&&) noexcept;
  Consumer& operator=(Consumer&&) noexcept;
  /// Flushes, and drops the error if there is one: call close() to see it.
  ~Consumer();

  /// The next record, or nothing at the end of what may be seen now. Where records that were
  /// committed unread have been deleted, it goes on behind what was committed. Errors as
  /// Reader::next's.
  [[nodiscard]] Result<std::optional<Entry>> next();

  /// Waits until there is a next record, `timeout` at most. True if there is one.
  [[nodiscard]] Result<bool> follow(std::chrono::milliseconds timeout);

  /// Behind the last record returned.
  [[nodiscard]] Position position() const noexcept;

  /// Everything before `position` is done: take Entry::end. Never moves the cursor back: a lower
  /// position than committed() changes nothing. What the caller made of those records, in a log of
  /// its own for example, has to be durable before: it is not made so.
  ///
  /// Survives the process once it was written, by the log's threads, 5 ms from now or after what
  /// takes longer; one sync for all commits meanwhile. Durable after flush(); a power cut before
  /// may take it back to any commit since the last one. What lies before `position` is made durable
  /// first; with a read-only Wal, waited for.
  ///
  /// Errors: of a write that failed in the background since the last call: this commit is kept all
  ///         the same and tried again. `invalid_argument`: beyond the end. `busy`: not durable
  ///         within ConsumerOptions::timeout. `gone`: dropped.
  [[nodiscard]] Result<void> commit(const Position& position);

  /// On return what was committed before the call is durable. On an error it is kept, and the next
  /// commit, flush() or close() tries again.
  [[nodiscard]] Result<void> flush();

  /// What was committed last; not necessarily durable yet.
  [[nodiscard]] Position committed() const;

  /// Moves the cursor, back or forward, and reads on from there; durable on return. What is left of
  /// the log begins at `begin`; before that is `gone`. Waits for a deletion to end. On an error
  /// cursor and reader are where they were.
  [[nodiscard]] Result<void> seek(ConsumerStart to);

  /// Reads the directory, and the record that is next.
  [[nodiscard]] Result<ConsumerLag> lag() const;

  /// Makes what was committed durable and gives the name back. Afterwards every call answers
  /// `closed`. On an error the name is given back all the same.
  [[nodiscard]] Result<void> close();

  class Impl;
  explicit Consumer(std::unique_ptr<Impl> impl);

 private:
  void finish() noexcept;

  std::unique_ptr<Impl> impl_;
};

}  // namespace nori
