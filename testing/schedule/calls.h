// Between the functions that take the place of the C library's (calls.cc) and the Schedule whose
// thread has called them.

#pragma once

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "testing/schedule/schedule.h"

namespace nori::testing {

/// A function of the C library that this program has one of the same name in front of. Not found
/// before it is needed: others call it before main().
template <typename Function>
class Next {
 public:
  constexpr explicit Next(const char* name) : name_(name) {}

  template <typename... Arguments>
  auto operator()(Arguments... arguments) {
    auto* function = function_.load(std::memory_order_relaxed);
    if (function == nullptr) {
      function = reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name_));
      function_.store(function, std::memory_order_relaxed);
    }
    return function(arguments...);
  }

 private:
  const char* name_;
  std::atomic<Function*> function_{nullptr};
};

/// A thread of a Schedule: what it does instead of calling the C library.
///
/// Threads: each from its own. Times are of the schedule's clock; without a deadline one waits for
/// ever.
class ScheduledThread {
 public:
  using Deadline = std::optional<std::uint64_t>;

  ScheduledThread(Schedule::State& state, int number, std::uint64_t priority)
      : state_(state), number_(number), priority_(priority) {}

  /// Of a mutex, and of a read-write lock by who writes: alone.
  enum class Hold : std::uint8_t { alone, shared };
  void lock(const void* mutex, Hold hold = Hold::alone);
  [[nodiscard]] bool try_lock(const void* mutex, Hold hold = Hold::alone);
  void unlock(const void* mutex);

  /// False: the deadline has come.
  bool wait(const void* condition, const void* mutex, Deadline deadline_ns);
  void signal(const void* condition);
  void broadcast(const void* condition);

  enum class FutexWait : std::uint8_t { woken, other_value, timed_out };
  FutexWait futex_wait(const std::uint32_t* word, std::uint32_t expected, Deadline deadline_ns);
  /// Returns how many it woke.
  int futex_wake(const void* word, int count_max);

  void sleep_until(std::uint64_t deadline_ns);
  void yield();
  int create(pthread_t* id, const pthread_attr_t* attributes, void* (*function)(void*),
             void* argument);
  int join(pthread_t id, void** returned);

  [[nodiscard]] std::uint64_t now_ns() const;

 private:
  friend class Schedule;
  friend class Schedule::State;

  enum class Waits : std::uint8_t { no, mutex, condition, futex, join, time };

  Schedule::State& state_;
  const int number_;
  std::uint64_t priority_;
  Waits waits_ = Waits::no;
  const void* waits_on_ = nullptr;
  Deadline deadline_ns_;
  bool timed_out_ = false;
  bool has_ended_ = false;
  bool is_joined_ = false;
  bool is_undisturbed_ = false;
  pthread_t id_{};
  std::string doing_ = "nothing yet";
  std::atomic<std::uint32_t> baton_{0};  ///< 1: it may go on. A futex of the kernel's.
};

/// nullptr: the calling thread belongs to no schedule.
extern thread_local constinit ScheduledThread* scheduled_thread;

}  // namespace nori::testing
