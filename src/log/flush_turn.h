// Who flushes, and who waits for it.

#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <mutex>
#include <utility>

#include "base/wakeup.h"
#include "nori/position.h"

namespace nori {

/// One thread at a time has the turn to flush. Whoever wants something flushed and finds the turn
/// taken waits: for the flush that brings it, or for the turn. Each is woken on its own: those that
/// a flush served, one by the other, and one more, who does the next flush for all others.
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
    for (;;) {
      Waiter waiter{.want = want};
      {
        const std::lock_guard lock(mutex_);
        if (is_settled(want)) {
          return false;
        }
        if (!taken_) {
          taken_ = true;
          return true;
        }
        *end_ = &waiter;
        end_ = &waiter.next;
      }
      waiter.wakeup.wait();
      wake_each(waiter.others);
      if (is_settled(want)) {
        return false;  // without the lock, which all others who were woken would want too
      }
    }
  }

  void release() noexcept {
    Waiter* successor = nullptr;
    Waiter* settled = nullptr;
    {
      const std::lock_guard lock(mutex_);
      taken_ = false;
      settled = take_settled();
      if (first_ != nullptr) {
        successor = std::exchange(first_, first_->next);
        successor->next = nullptr;
        end_ = first_ == nullptr ? &first_ : end_;
      }
    }
    // Who does the next flush first: it begins while the others are being woken.
    wake_list(successor);
    wake_list(settled);
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
  void wake_settled() noexcept {
    Waiter* settled = nullptr;
    {
      const std::lock_guard lock(mutex_);
      settled = take_settled();
    }
    wake_list(settled);
  }

  // How far things are. Set by whoever has the turn, read by anybody.
  std::atomic<Sequence> durable{0};
  std::atomic<std::uint64_t> written{0};
  std::atomic<bool> failed{false};

 private:
  // On the stack of who waits; linked, so that nothing here allocates.
  struct Waiter {
    Want want;
    Wakeup wakeup = {};
    Waiter* next = nullptr;
    Waiter* others = nullptr;  ///< Whom it wakes when it is woken.
  };

  [[nodiscard]] bool is_settled(const Want& want) const noexcept {
    return failed.load(std::memory_order_acquire) ||
           durable.load(std::memory_order_acquire) >= want.durable ||
           written.load(std::memory_order_acquire) >= want.written;
  }

  // Takes those who have what they want off the list, and returns the list they make. With mutex_.
  [[nodiscard]] Waiter* take_settled() noexcept {
    Waiter* settled = nullptr;
    Waiter** settled_end = &settled;
    Waiter** place = &first_;
    while (*place != nullptr) {
      Waiter* const waiter = *place;
      if (is_settled(waiter->want)) {
        *place = waiter->next;
        waiter->next = nullptr;
        *settled_end = waiter;
        settled_end = &waiter->next;
      } else {
        place = &waiter->next;
      }
    }
    end_ = place;
    return settled;
  }

  // Wakes the first of a list, who wakes the others: whoever has the turn has a disk to feed.
  // (append, 8 threads on 2 cores: 8.4 M/s in place of 6.7; durable-64: 133 K/s in place of 121)
  // Without mutex_. A waiter is gone once it is woken.
  static void wake_list(Waiter* first) noexcept {
    if (first != nullptr) {
      first->others = std::exchange(first->next, nullptr);
      first->wakeup.wake();
    }
  }

  static void wake_each(Waiter* waiter) noexcept {
    while (waiter != nullptr) {
      std::exchange(waiter, waiter->next)->wakeup.wake();
    }
  }

  alignas(64) std::mutex mutex_;  ///< Not on the line that appends read.
  bool taken_ = false;
  Waiter* first_ = nullptr;  ///< The others behind it, in the order in which they came.
  Waiter** end_ = &first_;   ///< Where the next one is linked.
};

}  // namespace nori
