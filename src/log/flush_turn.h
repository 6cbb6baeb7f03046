// Who flushes, and who waits for it.

#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <mutex>
#include <vector>

#include "nori/position.h"

namespace nori {

/// One thread at a time has the turn to flush. Whoever wants something flushed and finds the turn
/// taken waits: for the flush that brings it, or for the turn. Each is woken on its own, so that a
/// flush wakes those it served and one more, who does the next flush for all others.
///
/// Threads: any.
class FlushTurn {
 public:
  static constexpr std::uint64_t kNever = std::numeric_limits<std::uint64_t>::max();

  /// What a caller waits for: either is enough. kNever in both: the turn itself.
  struct Want {
    Sequence durable = kNever;       ///< The durable mark has come this far.
    std::uint64_t written = kNever;  ///< The ring is in its segments up to this address.
  };

  /// Waits until the turn is the caller's (true: give it back with Release), or what it wants is
  /// there, or the log has failed (false).
  [[nodiscard]] bool take(const Want& want) {
    std::unique_lock lock(mutex_);
    for (;;) {
      if (is_settled(want)) {
        return false;
      }
      if (!taken_) {
        taken_ = true;
        return true;
      }
      Waiter waiter{.want = want};
      waiters_.push_back(&waiter);
      waiter.changed.wait(lock, [&] { return waiter.woken; });
    }
  }

  void release() {
    const std::lock_guard lock(mutex_);
    taken_ = false;
    bool successor_woken = false;
    wake_if([&](const Waiter& waiter) {
      if (is_settled(waiter.want)) {
        return true;
      }
      return !std::exchange(successor_woken, true);
    });
  }

  /// Gives the turn back at the end of its scope, also where memory runs out.
  class Release {
   public:
    explicit Release(FlushTurn& turn) : turn_(turn) {}
    ~Release() { turn_.release(); }
    Release(const Release&) = delete;
    Release& operator=(const Release&) = delete;

   private:
    FlushTurn& turn_;
  };

  /// Wakes those who have what they want, within a turn.
  void wake_settled() {
    const std::lock_guard lock(mutex_);
    wake_if([&](const Waiter& waiter) { return is_settled(waiter.want); });
  }

  // How far things are. Set by whoever has the turn, read by anybody.
  std::atomic<Sequence> durable{0};
  std::atomic<std::uint64_t> written{0};
  std::atomic<bool> failed{false};

 private:
  struct Waiter {
    Want want;
    bool woken = false;
    std::condition_variable changed = {};
  };

  [[nodiscard]] bool is_settled(const Want& want) const noexcept {
    return failed.load(std::memory_order_acquire) ||
           durable.load(std::memory_order_acquire) >= want.durable ||
           written.load(std::memory_order_acquire) >= want.written;
  }

  // Notifies under the lock: a waiter's condition variable is gone once it has it.
  template <typename Condition>
  void wake_if(Condition condition) {
    std::erase_if(waiters_, [&](Waiter* waiter) {
      if (!condition(*waiter)) {
        return false;
      }
      waiter->woken = true;
      waiter->changed.notify_one();
      return true;
    });
  }

  alignas(64) std::mutex mutex_;  ///< Not on the line that appends read.
  bool taken_ = false;
  std::vector<Waiter*> waiters_;  ///< In the order in which they came.
};

}  // namespace nori
