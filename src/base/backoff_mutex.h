// A mutex for what takes less time than a cache line takes from one core to another.

#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace nori {

/// Who finds it taken waits without looking, looks again, and naps after the third time: meanwhile
/// who has it goes through it again and again, with what it guards in that core's own cache, and
/// gives it back by a plain store. Nobody is woken: a nap ends by itself.
///
/// Beside one that sleeps until it is woken, appends of 100 bytes on 2 cores: docs/performance.md.
/// Looking all the time gains nothing over std::mutex.
///
/// Threads: any. Who waits may be overtaken; over milliseconds all get on alike.
class BackoffMutex {
 public:
  void lock() noexcept {
    if (!try_lock()) [[unlikely]] {
      wait();
    }
  }

  [[nodiscard]] bool try_lock() noexcept {
    return !is_taken_.exchange(true, std::memory_order_acquire);
  }

  void unlock() noexcept { is_taken_.store(false, std::memory_order_release); }

 private:
  // In `pause` instructions, of 40 to 140 cycles each. Half or twice of it makes fewer appends.
  static constexpr std::uint32_t kPausesMin = 64;
  static constexpr std::uint32_t kPausesMax = 256;
  // Twice as long each time: of 60 threads that want it, 75,000 a second wake up to look.
  static constexpr std::chrono::microseconds kNapMin{50};
  static constexpr std::chrono::microseconds kNapMax{800};

  static void pause() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb");
#endif
  }

  // Not part of lock(), which is then small enough to be part of its caller.
  [[gnu::noinline]] void wait() noexcept {
    for (auto nap = kNapMin;; nap = std::min(2 * nap, kNapMax)) {
      for (auto pauses = kPausesMin; pauses <= kPausesMax; pauses *= 2) {
        for (std::uint32_t i = 0; i < pauses; ++i) {
          pause();
        }
        if (!is_taken_.load(std::memory_order_relaxed) && try_lock()) {
          return;
        }
      }
      std::this_thread::sleep_for(nap);
    }
  }

  std::atomic<bool> is_taken_{false};
};

}  // namespace nori
