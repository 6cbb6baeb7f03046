// The functions by which threads wait for one another, in front of the C library's: libstdc++ and
// the code under test call these. What is called by no thread of a Schedule goes on.

#include "testing/schedule/calls.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <ctime>

namespace {

using nori::testing::Next;
using nori::testing::scheduled_thread;
using nori::testing::ScheduledThread;

constinit Next<int(pthread_mutex_t*)> next_mutex_lock("pthread_mutex_lock");
constinit Next<int(pthread_mutex_t*)> next_mutex_trylock("pthread_mutex_trylock");
constinit Next<int(pthread_mutex_t*)> next_mutex_unlock("pthread_mutex_unlock");
constinit Next<int(pthread_rwlock_t*)> next_rwlock_wrlock("pthread_rwlock_wrlock");
constinit Next<int(pthread_rwlock_t*)> next_rwlock_rdlock("pthread_rwlock_rdlock");
constinit Next<int(pthread_rwlock_t*)> next_rwlock_trywrlock("pthread_rwlock_trywrlock");
constinit Next<int(pthread_rwlock_t*)> next_rwlock_tryrdlock("pthread_rwlock_tryrdlock");
constinit Next<int(pthread_rwlock_t*)> next_rwlock_unlock("pthread_rwlock_unlock");
constinit Next<int(pthread_cond_t*, pthread_mutex_t*)> next_cond_wait("pthread_cond_wait");
constinit Next<int(pthread_cond_t*, pthread_mutex_t*, const timespec*)> next_cond_timedwait(
    "pthread_cond_timedwait");
constinit Next<int(pthread_cond_t*, pthread_mutex_t*, clockid_t, const timespec*)>
    next_cond_clockwait("pthread_cond_clockwait");
constinit Next<int(pthread_cond_t*)> next_cond_signal("pthread_cond_signal");
constinit Next<int(pthread_cond_t*)> next_cond_broadcast("pthread_cond_broadcast");
constinit Next<int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)> next_create(
    "pthread_create");
constinit Next<int(pthread_t, void**)> next_join("pthread_join");
constinit Next<int(const timespec*, timespec*)> next_nanosleep("nanosleep");
constinit Next<int(clockid_t, int, const timespec*, timespec*)> next_clock_nanosleep(
    "clock_nanosleep");
constinit Next<int()> next_yield("sched_yield");
constinit Next<int(clockid_t, timespec*)> next_clock_gettime("clock_gettime");
constinit Next<long(long, ...)> next_syscall("syscall");

constexpr std::uint64_t kNsPerS = 1'000'000'000;
// What the clocks say when a schedule begins.
constexpr std::uint64_t kMonotonicNs = 1'000 * kNsPerS;
constexpr std::uint64_t kRealtimeNs = 1'800'000'000 * kNsPerS;

std::uint64_t ns_of(const timespec& time) {
  return static_cast<std::uint64_t>(time.tv_sec) * kNsPerS +
         static_cast<std::uint64_t>(time.tv_nsec);
}

// In the schedule's time, which begins at 0. What is past is now.
std::uint64_t deadline_of(clockid_t clock, const timespec& time) {
  const auto begin = clock == CLOCK_REALTIME ? kRealtimeNs : kMonotonicNs;
  const auto ns = ns_of(time);
  return ns < begin ? 0 : ns - begin;
}

int wait_until(ScheduledThread& thread, pthread_cond_t* condition, pthread_mutex_t* mutex,
               clockid_t clock, const timespec& deadline) {
  return thread.wait(condition, mutex, deadline_of(clock, deadline)) ? 0 : ETIMEDOUT;
}

long futex(ScheduledThread& thread, const std::uint32_t* word, int operation, std::uint32_t value,
           const timespec* timeout) {
  if (operation == FUTEX_WAKE) {
    return thread.futex_wake(word, static_cast<int>(value));
  }
  auto deadline =
      timeout == nullptr ? std::nullopt : std::optional(thread.now_ns() + ns_of(*timeout));
  switch (thread.futex_wait(word, value, deadline)) {
    case ScheduledThread::FutexWait::woken:
      return 0;
    case ScheduledThread::FutexWait::other_value:
      errno = EAGAIN;
      return -1;
    case ScheduledThread::FutexWait::timed_out:
      break;
  }
  errno = ETIMEDOUT;
  return -1;
}

}  // namespace

extern "C" {

int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  if (scheduled_thread == nullptr) {
    return next_mutex_lock(mutex);
  }
  scheduled_thread->lock(mutex);
  return 0;
}

int pthread_mutex_trylock(pthread_mutex_t* mutex) noexcept {
  if (scheduled_thread == nullptr) {
    return next_mutex_trylock(mutex);
  }
  return scheduled_thread->try_lock(mutex) ? 0 : EBUSY;
}

int pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept {
  if (scheduled_thread == nullptr) {
    return next_mutex_unlock(mutex);
  }
  scheduled_thread->unlock(mutex);
  return 0;
}

int pthread_rwlock_wrlock(pthread_rwlock_t* lock) noexcept {
  if (scheduled_thread == nullptr) {
    return next_rwlock_wrlock(lock);
  }
  scheduled_thread->lock(lock);
  return 0;
}

int pthread_rwlock_rdlock(pthread_rwlock_t* lock) noexcept {
  if (scheduled_thread == nullptr) {
    return next_rwlock_rdlock(lock);
  }
  scheduled_thread->lock(lock, ScheduledThread::Hold::shared);
  return 0;
}

int pthread_rwlock_trywrlock(pthread_rwlock_t* lock) noexcept {
  if (scheduled_thread == nullptr) {
    return next_rwlock_trywrlock(lock);
  }
  return scheduled_thread->try_lock(lock) ? 0 : EBUSY;
}

int pthread_rwlock_tryrdlock(pthread_rwlock_t* lock) noexcept {
  if (scheduled_thread == nullptr) {
    return next_rwlock_tryrdlock(lock);
  }
  return scheduled_thread->try_lock(lock, ScheduledThread::Hold::shared) ? 0 : EBUSY;
}

int pthread_rwlock_unlock(pthread_rwlock_t* lock) noexcept {
  if (scheduled_thread == nullptr) {
    return next_rwlock_unlock(lock);
  }
  scheduled_thread->unlock(lock);
  return 0;
}

int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) {
  if (scheduled_thread == nullptr) {
    return next_cond_wait(condition, mutex);
  }
  scheduled_thread->wait(condition, mutex, std::nullopt);
  return 0;
}

int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex,
                           const timespec* deadline) {
  if (scheduled_thread == nullptr) {
    return next_cond_timedwait(condition, mutex, deadline);
  }
  return wait_until(*scheduled_thread, condition, mutex, CLOCK_REALTIME, *deadline);
}

int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                           const timespec* deadline) {
  if (scheduled_thread == nullptr) {
    return next_cond_clockwait(condition, mutex, clock, deadline);
  }
  return wait_until(*scheduled_thread, condition, mutex, clock, *deadline);
}

int pthread_cond_signal(pthread_cond_t* condition) noexcept {
  if (scheduled_thread == nullptr) {
    return next_cond_signal(condition);
  }
  scheduled_thread->signal(condition);
  return 0;
}

int pthread_cond_broadcast(pthread_cond_t* condition) noexcept {
  if (scheduled_thread == nullptr) {
    return next_cond_broadcast(condition);
  }
  scheduled_thread->broadcast(condition);
  return 0;
}

int pthread_create(pthread_t* id, const pthread_attr_t* attributes, void* (*function)(void*),
                   void* argument) noexcept {
  if (scheduled_thread == nullptr) {
    return next_create(id, attributes, function, argument);
  }
  return scheduled_thread->create(id, attributes, function, argument);
}

int pthread_join(pthread_t id, void** returned) {
  if (scheduled_thread == nullptr) {
    return next_join(id, returned);
  }
  return scheduled_thread->join(id, returned);
}

int nanosleep(const timespec* time, timespec* left) {
  if (scheduled_thread == nullptr) {
    return next_nanosleep(time, left);
  }
  scheduled_thread->sleep_until(scheduled_thread->now_ns() + ns_of(*time));
  return 0;
}

int clock_nanosleep(clockid_t clock, int flags, const timespec* time, timespec* left) {
  if (scheduled_thread == nullptr) {
    return next_clock_nanosleep(clock, flags, time, left);
  }
  scheduled_thread->sleep_until((flags & TIMER_ABSTIME) != 0
                                    ? deadline_of(clock, *time)
                                    : scheduled_thread->now_ns() + ns_of(*time));
  return 0;
}

int sched_yield() noexcept {
  if (scheduled_thread == nullptr) {
    return next_yield();
  }
  scheduled_thread->yield();
  return 0;
}

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  const bool is_cpu_time = clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID;
  if (scheduled_thread == nullptr || is_cpu_time) {
    return next_clock_gettime(clock, time);
  }
  const auto ns =
      scheduled_thread->now_ns() + (clock == CLOCK_REALTIME ? kRealtimeNs : kMonotonicNs);
  time->tv_sec = static_cast<time_t>(ns / kNsPerS);
  time->tv_nsec = static_cast<long>(ns % kNsPerS);
  return 0;
}

// A futex's own operations only; the rest goes on, with as many arguments as a call can have.
long syscall(long number, ...) noexcept {
  constexpr int kArguments = 6;
  long arguments[kArguments];
  va_list list;
  va_start(list, number);
  for (auto& argument : arguments) {
    argument = va_arg(list, long);
  }
  va_end(list);
  const auto operation = static_cast<int>(arguments[1]) & ~FUTEX_PRIVATE_FLAG;
  if (scheduled_thread != nullptr && number == SYS_futex &&
      (operation == FUTEX_WAIT || operation == FUTEX_WAKE)) {
    // Numbers in the kernel's interface. NOLINTBEGIN(performance-no-int-to-ptr)
    return futex(*scheduled_thread, reinterpret_cast<const std::uint32_t*>(arguments[0]), operation,
                 static_cast<std::uint32_t>(arguments[2]),
                 reinterpret_cast<const timespec*>(arguments[3]));
    // NOLINTEND(performance-no-int-to-ptr)
  }
  return next_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                      arguments[5]);
}

}  // extern "C"
