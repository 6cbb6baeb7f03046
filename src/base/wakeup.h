// Waits to be woken once, by a futex.

#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

namespace nori {

/// What one thread sleeps on and another wakes it by. Nobody has to take a lock again to find out
/// (durable-64: a condition variable for each waiter made all 64 of them queue for its mutex).
///
/// Lifetime: it may be gone as soon as wait() has returned; wake() looks at it no more by then.
class Wakeup {
 public:
  void wait() noexcept {
    while (word_.load(std::memory_order_acquire) == 0) {
      ::syscall(SYS_futex, &word_, FUTEX_WAIT_PRIVATE, 0, nullptr);
    }
  }

  void wake() noexcept {
    // The address is all that the call needs: what lies there may already be something else, which
    // is then woken for nothing and looks again.
    const auto* const address = &word_;
    word_.store(1, std::memory_order_release);
    ::syscall(SYS_futex, address, FUTEX_WAKE_PRIVATE, 1);
  }

 private:
  std::atomic<std::uint32_t> word_{0};
  static_assert(sizeof(word_) == sizeof(std::uint32_t));
};

}  // namespace nori
