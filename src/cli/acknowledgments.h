// `append --ack`: a line for each record, once it is what was asked for and not before.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

#include "cli/output.h"
#include "nori/wal.h"

namespace nori::cli {

enum class AckLevel : std::uint8_t { none, appended, durable };

/// Writes `SEQUENCE<TAB>SEGMENT:OFFSET` to standard output for each record that has reached a
/// level, in order.
///
/// It never makes a record durable, it only looks how far the log is: under the policy `always`
/// after each append, under the others every millisecond, in a thread of its own. Until it is
/// durable an append takes 24 bytes here.
///
/// Threads: one at a time. Lifetime: the Wal outlives it.
class Acknowledgments {
 public:
  Acknowledgments(Wal& wal, AckLevel level, FsyncPolicy::Kind policy);
  Acknowledgments(const Acknowledgments&) = delete;
  Acknowledgments& operator=(const Acknowledgments&) = delete;
  ~Acknowledgments();

  /// `record_count` records from `sequence` on are appended, in the frame at `position`.
  void appended(Sequence sequence, const Position& position, std::uint64_t record_count);

  /// Closes the log, and writes what that made durable.
  [[nodiscard]] Result<void> close_log();

  /// The errno with which writing failed, or 0.
  [[nodiscard]] int failure() const noexcept { return failure_.load(); }

 private:
  // Looks how far the log is durable until it is told to stop.
  void watch();
  void stop_watching();
  // Writes what lies before `durable`. With a watcher only it may call this.
  void write_durable(Sequence durable);
  // Adds the lines for [sequence, end) to output_.
  void print(const Position& frame, Sequence sequence, Sequence end);
  void flush();

  Wal& wal_;
  const AckLevel level_;
  const bool durable_on_return_;  // an append is, under this policy
  Output output_;
  std::atomic<int> failure_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  // Frames not acknowledged yet, each with its first sequence. It ends where the next one begins,
  // the last one at pending_end_.
  std::deque<Position> pending_;
  Sequence pending_end_ = 0;
  bool stopping_ = false;
  std::thread watcher_;
};

}  // namespace nori::cli
