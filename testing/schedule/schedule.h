// Threads that run one at a time, in an order that a seed repeats.
//
// The code under test does not know of it: a program that links nori_schedule defines the functions
// by which threads wait for one another (calls.cc: mutexes, read-write locks, condition variables,
// futexes, sleep, creation and end), and those come here when a thread of a Schedule calls them.
// Any other thread's go on to the C library.
//
//   point     Each of these calls, the beginning of a thread and each preemption_point() of the
//             library is a scheduling point: another thread may go on instead. Nowhere else.
//   choice    Drawn from the seed for the whole run: how often a point switches, and whether to
//             anybody or by priorities that change now and then (as PCT does: few switches, at
//             places where it matters). A signal wakes anybody who waits.
//   time      Stands still but for a microsecond a point. When nobody can go on it jumps to the
//             nearest deadline; now and then it does so earlier, as on a machine that is slow.
//   stuck     Nobody can go on and nobody waits for a time: reported, with who waits for what.
//
// What it does not explore: orders of what threads do between two points, so of plain atomics; and
// what a weaker memory order would allow, because one thread at a time sees all that was done
// before. Those are the thread sanitizer's and real threads' (tests/crash/threads_test.cc).
// Not treated, so not to be used by threads of a schedule: pthread_once, semaphores, recursive and
// timed mutexes, cancellation.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace nori::testing {

/// An order of threads.
///
/// Threads: run() from one thread that belongs to no schedule; several schedules may run at a time,
/// if their threads share nothing. The static members from the schedule's own threads.
class Schedule {
 public:
  explicit Schedule(std::uint64_t seed);
  ~Schedule();
  Schedule(const Schedule&) = delete;
  Schedule& operator=(const Schedule&) = delete;

  /// Once: runs `body` on a thread of the schedule, to which every thread belongs that one of its
  /// threads makes. Returns when all have ended: nothing; or when they never will: why. Those
  /// threads then sleep for ever, and `body` stays with all that it holds: what it refers to
  /// has to as well.
  [[nodiscard]] std::string run(std::function<void()> body);

  /// Calls `what` at the `points`-th scheduling point from now on, on the thread that comes to it.
  /// One at a time.
  static void call_at_point(std::uint64_t points, std::function<void()> what);

  /// No other thread goes on while this lives, unless its own would have to wait.
  class Undisturbed {
   public:
    Undisturbed();
    ~Undisturbed();
    Undisturbed(const Undisturbed&) = delete;
    Undisturbed& operator=(const Undisturbed&) = delete;

   private:
    const bool before_;
  };

  /// What the thread does from now on, for the trace and for who reads that it is stuck.
  static void note(std::string what);
  /// Whether trace() is kept.
  [[nodiscard]] static bool is_traced();

  /// Before run(): keeps all that was noted, and each switch.
  void set_tracing(bool on);
  [[nodiscard]] const std::vector<std::string>& trace() const;
  /// Of all choices: equal where two runs had the same order.
  [[nodiscard]] std::uint64_t digest() const;
  [[nodiscard]] std::uint64_t points() const;
  [[nodiscard]] std::uint64_t switches() const;

  class State;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace nori::testing
