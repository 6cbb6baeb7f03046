// Who is to be called back when something is durable: registrations, and the thread that makes them
// come true.

#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

#include "nori/error.h"
#include "nori/position.h"
#include "nori/wal.h"

namespace nori {

/// Callbacks waiting for the durable mark, in the order of their positions. One thread flushes what
/// they wait for and calls them: while it does, the next ones gather, so that one flush serves them
/// all. It begins with the first registration.
///
/// Threads: any, for add(). The thread that calls back holds no lock meanwhile.
class DurableCallbacks {
 public:
  /// How many may wait; each is about a hundred bytes.
  static constexpr std::size_t kPendingMax = 65536;

  /// What makes them come true. Called by the thread, without a lock.
  class Log {
   public:
    virtual ~Log() = default;
    /// Makes everything before `target` durable.
    [[nodiscard]] virtual Result<void> commit(Sequence target) = 0;
    [[nodiscard]] virtual Sequence durable_sequence() const = 0;
    /// Called after each round of callbacks.
    virtual void deliver_events() = 0;
  };

  /// `log` outlives this.
  explicit DurableCallbacks(Log& log) : log_(log) {}
  ~DurableCallbacks();
  DurableCallbacks(const DurableCallbacks&) = delete;
  DurableCallbacks& operator=(const DurableCallbacks&) = delete;

  /// Calls `callback` once, when everything before `target` is durable or when that has failed.
  /// Waits where too many are pending. Errors, and then it is never called: `would_block`: within a
  /// callback, instead of waiting; `closed`.
  [[nodiscard]] Result<void> add(Sequence target, DurableCallback callback);

  /// Takes no more registrations, and returns when everyone waiting was called. False, and nothing
  /// done, within a callback.
  [[nodiscard]] bool finish();

  [[nodiscard]] std::uint64_t pending() const;
  /// What callbacks threw.
  [[nodiscard]] std::uint64_t exceptions() const noexcept { return exceptions_.load(); }

 private:
  struct Pending {
    Sequence target = 0;
    DurableCallback callback;
  };

  void run();
  void call_up_to(Sequence target, const Result<void>& outcome);
  [[nodiscard]] bool is_within_callback() const noexcept;

  Log& log_;
  mutable std::mutex mutex_;
  std::condition_variable wanted_;  ///< For the thread: there is something to do.
  std::condition_variable room_;    ///< For those who wait to register.
  std::deque<Pending> pending_;     ///< By target; equal ones as they came.
  bool is_idle_ = false;            ///< The thread waits for wanted_.
  bool is_finishing_ = false;
  std::atomic<std::uint64_t> exceptions_{0};
  std::thread thread_;
};

}  // namespace nori
