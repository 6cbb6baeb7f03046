// What is behind nori::Consumer.
//
// A commit's path:
//
//   commit    waits until the log is durable so far, then notes the place: no I/O
//   write     some 5 ms later, on the log's threads: the value aside, synced, renamed
//   flush     the same at once, and the directory synced

#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cursor/cursor_files.h"
#include "io/file_system.h"
#include "log/background_task.h"
#include "log/reader_impl.h"
#include "nori/consumer.h"
#include "nori/error.h"
#include "observe/observer.h"

namespace nori {

/// What a consumer asks of its log.
class ConsumerLog {
 public:
  ConsumerLog() = default;
  ConsumerLog(const ConsumerLog&) = delete;
  ConsumerLog& operator=(const ConsumerLog&) = delete;
  virtual ~ConsumerLog() = default;

  /// Whether it is open, in this process.
  [[nodiscard]] virtual Result<void> check_open() const = 0;
  /// A reader that retention does not ask.
  [[nodiscard]] virtual Result<std::unique_ptr<Reader::Impl>> open_reader(const ReadFrom& from,
                                                                          ReadOptions options) = 0;
  /// On return everything before `target` is durable, if this log is written here.
  [[nodiscard]] virtual Result<void> commit(Sequence target) = 0;
  [[nodiscard]] virtual Position current_position() const = 0;
  [[nodiscard]] virtual Result<Position> position_at(TimePoint time) = 0;
};

class Consumer::Impl {
 public:
  /// What a consumer is given by its log, and keeps beyond it.
  struct Source {
    std::shared_ptr<ConsumerLog> log;
    io::FileSystem& file_system;
    std::shared_ptr<io::Directory> directory;
    LogId log_id;
    std::shared_ptr<Observer> observer;
    /// nullptr: nothing is written in the background.
    std::shared_ptr<BackgroundThreads> threads;
    /// Becomes true when this process's writer drops the cursor.
    std::shared_ptr<std::atomic<bool>> dropped;
    bool is_read_only = false;
  };

  /// Errors as Wal::consumer().
  [[nodiscard]] static Result<std::unique_ptr<Impl>> open(Source source, std::string_view name,
                                                          const ConsumerOptions& options);
  ~Impl();

  [[nodiscard]] Result<std::optional<Entry>> next();
  [[nodiscard]] Result<bool> follow(std::chrono::milliseconds timeout);
  [[nodiscard]] Position position() const noexcept { return reader_->position(); }
  [[nodiscard]] Result<void> commit(const Position& position);
  [[nodiscard]] Result<void> flush();
  [[nodiscard]] Position committed() const;
  [[nodiscard]] Result<void> seek(const ConsumerStart& to);
  [[nodiscard]] Result<ConsumerLag> lag() const;
  [[nodiscard]] Result<void> close();

  [[nodiscard]] bool is_of_parent() const { return io::fork_generation() != fork_generation_; }
  [[nodiscard]] EventQueue& events() const { return source_.observer->events; }

 private:
  Impl(Source source, std::string_view name, const ConsumerOptions& options)
      : source_(std::move(source)),
        name_(name),
        options_(options),
        fork_generation_(io::fork_generation()) {}

  [[nodiscard]] Result<void> take_cursor();
  [[nodiscard]] Result<void> check_usable() const;
  [[nodiscard]] Result<void> check_not_dropped() const;
  [[nodiscard]] std::unexpected<Error> gone() const;
  [[nodiscard]] Result<void> wait_durable(Sequence target);
  [[nodiscard]] Result<Sequence> mark_on_disk() const;
  [[nodiscard]] Result<ReadFrom> locate(const ConsumerStart& start);
  [[nodiscard]] Result<bool> passes_over(const Error& error);
  [[nodiscard]] Result<void> place_at(const ConsumerStart& start);
  [[nodiscard]] Result<void> write(const CursorValue& value, bool durable);
  [[nodiscard]] Result<void> write_pending(bool durable, std::chrono::milliseconds lock_timeout);
  [[nodiscard]] Result<void> sync_cursors();
  [[nodiscard]] Result<void> look_for_cursor();
  [[nodiscard]] std::optional<BackgroundTask::Clock::time_point> background_step();
  void see_durable(Sequence sequence) noexcept;

  const Source source_;
  const std::string name_;
  const ConsumerOptions options_;
  const std::uint64_t fork_generation_;
  std::unique_ptr<io::Directory> cursors_;
  std::unique_ptr<io::Lock> lock_;
  std::unique_ptr<Reader::Impl> reader_;
  bool has_cap_ = false;  ///< As opened.
  std::atomic<bool> closed_{false};
  /// Everything before it is durable.
  std::atomic<Sequence> durable_seen_{0};

  // Of the file; held over I/O.
  mutable std::mutex write_mutex_;
  CursorValue value_;
  std::optional<io::FileId> file_id_;  ///< Of NAME.cursor, as written or found.
  bool is_durable_ = false;            ///< So is its name.
  bool is_doubtful_ = false;           ///< A sync of the directory failed: to be written anew.

  // Outer lock: write_mutex_.
  mutable std::mutex mutex_;
  Position pending_;           ///< Committed last.
  Sequence written_ = 0;       ///< In the file.
  bool is_scheduled_ = false;  ///< The step runs, or will without being woken.
  std::optional<Error> background_error_;
  BackgroundTask::Clock::time_point next_write_at_{};

  std::unique_ptr<BackgroundTask> task_;
};

[[nodiscard]] Result<std::vector<ConsumerInfo>> list_consumers(io::Directory& directory,
                                                               const LogId& log_id);
[[nodiscard]] Result<void> drop_consumer(io::FileSystem& file_system, io::Directory& directory,
                                         std::string_view name, std::chrono::milliseconds timeout);

}  // namespace nori
