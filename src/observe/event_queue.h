// From where an event happens, under whatever locks, to where it is told, under none.

#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>

#include "nori/events.h"

namespace nori {

/// Events that wait to be told. Whoever posts one calls deliver() once it holds no locks.
///
/// Threads: any. Its lock is the innermost of all, and not held while a listener runs.
class EventQueue {
 public:
  /// Without a listener, events go nowhere.
  explicit EventQueue(std::shared_ptr<EventListener> listener);

  void post(Event event);

  /// Tells what waits, unless another thread, or this one further up, is at it: that one then tells
  /// this, too. Nothing happens in a child made by fork().
  void deliver() {
    if (has_events_.load(std::memory_order_relaxed)) [[unlikely]] {
      tell();
    }
  }

  [[nodiscard]] std::uint64_t dropped() const noexcept { return dropped_.load(); }
  [[nodiscard]] std::uint64_t exceptions() const noexcept { return exceptions_.load(); }

 private:
  void tell();

  const std::shared_ptr<EventListener> listener_;
  const std::uint64_t fork_generation_;
  std::mutex mutex_;
  std::deque<Event> events_;
  bool is_telling_ = false;
  std::atomic<bool> has_events_{false};
  std::atomic<std::uint64_t> dropped_{0};
  std::atomic<std::uint64_t> exceptions_{0};
};

/// Delivers at the end of a scope that no lock outlives.
class EventDelivery {
 public:
  explicit EventDelivery(EventQueue& events) : events_(events) {}
  ~EventDelivery() { events_.deliver(); }
  EventDelivery(const EventDelivery&) = delete;
  EventDelivery& operator=(const EventDelivery&) = delete;

 private:
  EventQueue& events_;
};

}  // namespace nori
