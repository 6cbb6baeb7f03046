// A clock to delete by.

#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace nori {

/// Starts at a time that the log itself vouches for, and follows the wall clock from there: by a
/// day per hour of running at most, and never back. So a wall clock that jumps ahead by a year
/// deletes nothing for as long as it takes to notice; one that was set back stops it.
///
/// Threads: one at a time.
class GuardedClock {
 public:
  using Running = std::chrono::steady_clock;

  GuardedClock(std::uint64_t start_ms, Running::time_point began)
      : now_ms_(start_ms), looked_at_(began) {}

  /// Milliseconds since 1970, `wall_ms` being what the wall clock says at `running`.
  std::uint64_t now_ms(std::uint64_t wall_ms, Running::time_point running) {
    constexpr std::uint64_t kTimesFaster = 24;  // a day per hour
    const auto ran = std::chrono::duration_cast<std::chrono::milliseconds>(running - looked_at_);
    if (ran > std::chrono::milliseconds::zero()) {
      looked_at_ += ran;  // what is less than a millisecond counts next time
      const auto most = now_ms_ + kTimesFaster * static_cast<std::uint64_t>(ran.count());
      now_ms_ = std::max(now_ms_, std::min(wall_ms, most));
    }
    return now_ms_;
  }

 private:
  std::uint64_t now_ms_;
  Running::time_point looked_at_;
};

}  // namespace nori
