// What a log lets others see of its work: events, and how long things take.

#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>

#include "nori/error.h"
#include "nori/events.h"
#include "observe/event_queue.h"
#include "observe/latency_recorder.h"

namespace nori {

/// Who may lack space: each is told apart, so that one that finds some does not hide another.
enum class SpaceNeed : std::uint8_t { opening = 1, placing = 2, flushing = 4 };

/// One opening's. Shared by the log, its writer and its readers.
///
/// Threads: any.
class Observer {
 public:
  Observer(std::shared_ptr<EventListener> listener, std::chrono::nanoseconds slow_sync)
      : events(std::move(listener)), slow_sync_(slow_sync) {}

  /// Does, times and counts a sync of `file`, and reports one that is slow.
  template <typename Sync>
  auto timed_sync(std::string_view file, Sync sync) {
    const Stopwatch watch;
    auto synced = sync();
    const auto time = watch.elapsed();
    syncs.record(time);
    if (time > slow_sync_) {
      slow_syncs.fetch_add(1, std::memory_order_relaxed);
      events.post(SlowSync{.file = std::string(file), .time_taken = time});
    }
    return synced;
  }

  /// What came of an attempt that needs space. Reports when the log begins to lack some, and when
  /// nobody lacks any more. Other errors say nothing of space.
  template <typename T>
  void note_space(SpaceNeed need, const Result<T>& attempt) {
    const auto bit = static_cast<std::uint8_t>(need);
    const bool lacks = !attempt && attempt.error().code == ErrorCode::no_space;
    if ((!attempt && !lacks) || lacks == ((lacking_.load() & bit) != 0)) [[likely]] {
      return;
    }
    const std::lock_guard lock(space_mutex_);
    const auto before = lacking_.load();
    const auto after = static_cast<std::uint8_t>(lacks ? before | bit : before & ~bit);
    lacking_.store(after);
    if (before == 0 && after != 0) {
      events.post(SpaceExhausted{.error = attempt.error()});
    } else if (before != 0 && after == 0) {
      events.post(SpaceAvailable{});
    }
  }

  EventQueue events;
  LatencyRecorder appends;
  LatencyRecorder ring_waits;
  LatencyRecorder durable_waits;
  LatencyRecorder flushes;
  LatencyRecorder syncs;
  std::atomic<std::uint64_t> slow_syncs{0};

 private:
  const std::chrono::nanoseconds slow_sync_;
  std::mutex space_mutex_;
  std::atomic<std::uint8_t> lacking_{0};
};

}  // namespace nori
