// Time that passes, and processor time that is spent.

#pragma once

#include <sys/resource.h>

#include <chrono>
#include <cstdint>
#include <thread>

namespace nori::bench {

using Clock = std::chrono::steady_clock;

struct Elapsed {
  double seconds = 0;
  /// Of all threads of the process, in the kernel too.
  double cpu_seconds = 0;
};

class Stopwatch {
 public:
  [[nodiscard]] Elapsed elapsed() const {
    const std::chrono::duration<double> seconds = Clock::now() - start_;
    return {.seconds = seconds.count(), .cpu_seconds = cpu_seconds_now() - cpu_start_};
  }

 private:
  static double cpu_seconds_now() {
    rusage used{};
    getrusage(RUSAGE_SELF, &used);
    const auto seconds = static_cast<double>(used.ru_utime.tv_sec + used.ru_stime.tv_sec);
    return seconds + static_cast<double>(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
  }

  double cpu_start_ = cpu_seconds_now();
  Clock::time_point start_ = Clock::now();
};

[[nodiscard]] inline Clock::duration as_duration(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

/// Calls `work(i)` with i = 0, 1, ... until the time is up, or `work` answers false; returns how
/// often it answered true. The clock is looked at every `stride` calls, so that reading it does not
/// show.
template <typename Work>
std::uint64_t repeat_for(double seconds, std::uint64_t stride, Work&& work) {
  const auto end = Clock::now() + as_duration(seconds);
  std::uint64_t i = 0;
  do {
    for (const std::uint64_t stop = i + stride; i < stop; ++i) {
      if (!work(i)) {
        return i;
      }
    }
  } while (Clock::now() < end);
  return i;
}

/// Calls `work()` as soon as it is `due`, however late that is by now; returns how long it took.
template <typename Work>
Clock::duration time_at(Clock::time_point due, Work&& work) {
  auto begun = Clock::now();
  // Sleeping wakes too late for short pauses.
  if (due - begun > std::chrono::milliseconds(1)) {
    std::this_thread::sleep_until(due);
  }
  while (begun < due) {
    begun = Clock::now();
  }
  work();
  return Clock::now() - begun;
}

}  // namespace nori::bench
