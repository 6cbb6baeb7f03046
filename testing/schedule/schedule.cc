#include "testing/schedule/schedule.h"

#include <fmt/format.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <string_view>
#include <utility>

#include "base/preemption.h"
#include "testing/is_sanitized.h"
#include "testing/random.h"
#include "testing/schedule/calls.h"

namespace nori::testing {

thread_local constinit ScheduledThread* scheduled_thread = nullptr;

namespace {

constinit Next<int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)> next_create(
    "pthread_create");
constinit Next<int(pthread_t, void**)> next_join("pthread_join");
constinit Next<long(long, ...)> next_syscall("syscall");

constexpr std::uint64_t kNsPerPoint = 1000;
// Far beyond what any test needs: whoever comes here goes round in circles.
constexpr std::uint64_t kPointsMax = 2'000'000;

// One baton a thread: who has it goes on. Of real futexes, and with the memory order that a mutex
// would give.
void wait_for(std::atomic<std::uint32_t>& baton) {
  while (baton.load(std::memory_order_acquire) == 0) {
    next_syscall(SYS_futex, &baton, FUTEX_WAIT_PRIVATE, 0, nullptr, nullptr, 0);
  }
  baton.store(0, std::memory_order_relaxed);
}

void hand_to(std::atomic<std::uint32_t>& baton) {
  baton.store(1, std::memory_order_release);
  next_syscall(SYS_futex, &baton, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

// The threads that this one makes meanwhile stay on its core: handing over to a thread that is
// there already takes half as long.
class OneCore {
 public:
  OneCore() {
    ::sched_getaffinity(0, sizeof(before_), &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<unsigned>(::sched_getcpu()), &one);
    ::sched_setaffinity(0, sizeof(one), &one);
  }
  ~OneCore() { ::sched_setaffinity(0, sizeof(before_), &before_); }
  OneCore(const OneCore&) = delete;
  OneCore& operator=(const OneCore&) = delete;

 private:
  cpu_set_t before_{};
};

}  // namespace

/// All of it belongs to the thread that has the baton; while none runs, to who calls run().
class Schedule::State : public std::enable_shared_from_this<State> {
 public:
  using Waits = ScheduledThread::Waits;
  using Deadline = ScheduledThread::Deadline;
  using Hold = ScheduledThread::Hold;

  explicit State(std::uint64_t seed) : random_(seed) {
    constexpr std::uint64_t kPointsPerSwitch[] = {1, 2, 4, 8, 16, 32, 64, 256};
    constexpr std::uint64_t kPointsPerJump[] = {32, 256, 4096};
    points_per_switch_ = kPointsPerSwitch[random_.below(std::size(kPointsPerSwitch))];
    points_per_jump_ = kPointsPerJump[random_.below(std::size(kPointsPerJump))];
    by_priority_ = random_.coin();
  }

  std::string run(std::function<void()> body) {
    body_ = std::move(body);
    const auto call_body = [](void* state) -> void* {
      static_cast<State*>(state)->body_();
      return nullptr;
    };
    const OneCore one_core;
    pthread_t id{};
    if (start(&id, nullptr, call_body, this) == nullptr) {
      return "no thread could be started";
    }
    hand_to(threads_.front().baton_);
    wait_for(finished_);
    if (wrong_.empty()) {
      next_join(id, nullptr);
    }
    return wrong_;
  }

  // --- What threads call

  void point(ScheduledThread& self, std::string_view what) {
    if (self.is_undisturbed_) {
      return;
    }
    ++points_;
    now_ns_ += kNsPerPoint;
    if (call_ != nullptr && points_ >= call_at_) {
      const auto call = std::exchange(call_, nullptr);
      const Undisturbed undisturbed;
      call();
    }
    if (points_ >= kPointsMax) {
      give_up(self, fmt::format("after {} scheduling points it is not at its end", points_));
    }
    if (random_.below(points_per_jump_) == 0) {
      jump();
    }
    end_waits();
    if (random_.below(points_per_switch_) == 0) {
      demote(self);
      go_on_with(self, *choose(), what);
    }
  }

  // Until somebody resumes it, or the deadline. False: the deadline.
  bool block(ScheduledThread& self, Waits waits, const void* on, Deadline deadline_ns,
             std::string_view what) {
    self.waits_ = waits;
    self.waits_on_ = on;
    self.deadline_ns_ = deadline_ns;
    self.timed_out_ = false;
    auto* next = choose();
    while (next == nullptr && jump()) {
      next = choose();
    }
    if (next == nullptr) {
      give_up(self, describe_waits());
    }
    go_on_with(self, *next, what);
    return !self.timed_out_;
  }

  // Those who wait so, in an order of the seed's. Returns how many.
  int resume(Waits waits, const void* on, int count_max) {
    std::vector<ScheduledThread*> waiting;
    for (auto& thread : threads_) {
      if (thread.waits_ == waits && thread.waits_on_ == on) {
        waiting.push_back(&thread);
      }
    }
    int count = 0;
    for (; count < count_max && !waiting.empty(); ++count) {
      const auto chosen =
          waiting.begin() + static_cast<std::ptrdiff_t>(random_.below(waiting.size()));
      resume(**chosen);
      waiting.erase(chosen);
    }
    return count;
  }

  void resume_all(Waits waits, const void* on) {
    for (auto& thread : threads_) {
      if (thread.waits_ == waits && thread.waits_on_ == on) {
        resume(thread);
      }
    }
  }

  // Whether nobody's hold of the mutex is in the way of this one.
  [[nodiscard]] bool is_free(const void* mutex, Hold hold) const {
    return std::ranges::none_of(owners_, [&](const Owner& owner) {
      return owner.mutex == mutex && (owner.hold == Hold::alone || hold == Hold::alone);
    });
  }

  void acquire(ScheduledThread& self, const void* mutex, Hold hold) {
    while (!is_free(mutex, hold)) {
      block(self, Waits::mutex, mutex, std::nullopt, "waits for a mutex");
    }
    owners_.push_back({mutex, &self, hold});
  }

  void release(const ScheduledThread& self, const void* mutex) {
    std::erase_if(
        owners_, [&](const Owner& owner) { return owner.mutex == mutex && owner.thread == &self; });
    resume_all(Waits::mutex, mutex);
  }

  // nullptr: the system has no more threads.
  ScheduledThread* start(pthread_t* id, const pthread_attr_t* attributes, void* (*function)(void*),
                         void* argument) {
    auto& thread =
        threads_.emplace_back(*this, static_cast<int>(threads_.size()), random_.next() | kFresh);
    auto* const start = new Start{shared_from_this(), thread, function, argument};
    if (next_create(id, attributes, begin_thread, start) != 0) {
      delete start;
      threads_.pop_back();
      return nullptr;
    }
    thread.id_ = *id;
    return &thread;
  }

  [[nodiscard]] ScheduledThread* find(pthread_t id) {
    const auto found = std::ranges::find_if(threads_, [&](const ScheduledThread& thread) {
      return !thread.is_joined_ && ::pthread_equal(thread.id_, id) != 0;
    });
    return found == threads_.end() ? nullptr : &*found;
  }

  // The lowest priority there was, so that all others go first.
  void demote(ScheduledThread& self) { self.priority_ = --lowest_priority_; }

  void go_on_with(ScheduledThread& self, ScheduledThread& next, std::string_view what) {
    if (&next == &self) {
      return;
    }
    ++switches_;
    digest_ =
        (digest_ ^ (points_ << 8) ^ static_cast<std::uint64_t>(next.number_)) * 0x9e3779b97f4a7c15;
    if (traced_) {
      trace_.push_back(fmt::format("{}: {}; {} goes on", self.number_, what, next.number_));
    }
    hand_to(next.baton_);
    wait_for(self.baton_);
  }

  // One that can go on, or nullptr.
  [[nodiscard]] ScheduledThread* choose() {
    ScheduledThread* chosen = nullptr;
    std::uint64_t count = 0;
    for (auto& thread : threads_) {
      if (thread.waits_ != Waits::no || thread.has_ended_) {
        continue;
      }
      ++count;
      if (chosen == nullptr ||
          (by_priority_ ? thread.priority_ > chosen->priority_ : random_.below(count) == 0)) {
        chosen = &thread;
      }
    }
    return chosen;
  }

  Random random_;
  std::deque<ScheduledThread> threads_;
  std::uint64_t now_ns_ = 0;
  std::uint64_t points_ = 0;
  std::uint64_t switches_ = 0;
  std::uint64_t digest_ = 0;
  std::uint64_t call_at_ = 0;
  std::function<void()> call_;
  bool traced_ = false;
  std::vector<std::string> trace_;

 private:
  struct Owner {
    const void* mutex;
    ScheduledThread* thread;
    Hold hold;
  };
  struct Start {
    std::shared_ptr<State> state;
    ScheduledThread& thread;
    void* (*function)(void*);
    void* argument;
  };

  // Priorities of new threads are above those of threads that were demoted.
  static constexpr std::uint64_t kFresh = std::uint64_t{1} << 63;

  static void* begin_thread(void* argument) {
    // Where the threads are stuck this one, on its stack, keeps the state.
    const std::unique_ptr<Start> start(static_cast<Start*>(argument));
    wait_for(start->thread.baton_);
    scheduled_thread = &start->thread;
    void* const returned = start->function(start->argument);
    // What the thread's own variables still do when they go belongs to no order.
    scheduled_thread = nullptr;
    start->state->end(start->thread);
    return returned;
  }

  void end(ScheduledThread& self) {
    self.has_ended_ = true;
    resume_all(Waits::join, &self);
    auto* next = choose();
    while (next == nullptr && jump()) {
      next = choose();
    }
    if (next != nullptr) {
      hand_to(next->baton_);
    } else if (std::ranges::all_of(threads_, &ScheduledThread::has_ended_)) {
      hand_to(finished_);
    } else {
      give_up(self, describe_waits());
    }
  }

  [[noreturn]] void give_up(ScheduledThread& self, std::string why) {
    wrong_ = std::move(why);
    hand_to(finished_);
    for (;;) {
      wait_for(self.baton_);
    }
  }

  static void resume(ScheduledThread& thread) {
    thread.waits_ = Waits::no;
    thread.waits_on_ = nullptr;
    thread.deadline_ns_.reset();
  }

  // To the nearest deadline, if there is one.
  bool jump() {
    Deadline nearest;
    for (const auto& thread : threads_) {
      if (thread.deadline_ns_) {
        nearest = std::min(nearest.value_or(*thread.deadline_ns_), *thread.deadline_ns_);
      }
    }
    now_ns_ = std::max(now_ns_, nearest.value_or(0));
    end_waits();
    return nearest.has_value();
  }

  void end_waits() {
    for (auto& thread : threads_) {
      if (thread.deadline_ns_ && *thread.deadline_ns_ <= now_ns_) {
        resume(thread);
        thread.timed_out_ = true;
      }
    }
  }

  [[nodiscard]] std::string describe_waits() {
    std::string text = "nobody can go on:";
    for (const auto& thread : threads_) {
      if (thread.has_ended_) {
        continue;
      }
      text += fmt::format("\n  thread {} ({}) waits for ", thread.number_, thread.doing_);
      switch (thread.waits_) {
        case Waits::mutex:
          text += fmt::format(
              "a mutex of thread {}",
              std::ranges::find(owners_, thread.waits_on_, &Owner::mutex)->thread->number_);
          break;
        case Waits::condition:
          text += "a condition variable";
          break;
        case Waits::futex:
          text += "a futex";
          break;
        case Waits::join:
          text += fmt::format("the end of thread {}",
                              static_cast<const ScheduledThread*>(thread.waits_on_)->number_);
          break;
        case Waits::time:
        case Waits::no:
          text += "nothing";
          break;
      }
    }
    return text;
  }

  std::function<void()> body_;
  std::uint64_t points_per_switch_ = 1;
  std::uint64_t points_per_jump_ = 1;
  bool by_priority_ = false;
  std::uint64_t lowest_priority_ = kFresh;
  std::vector<Owner> owners_;
  std::string wrong_;
  std::atomic<std::uint32_t> finished_{0};  ///< The baton of who called run().
};

// --- What a thread does instead of calling the C library

void ScheduledThread::lock(const void* mutex, Hold hold) {
  state_.point(*this, "locks");
  state_.acquire(*this, mutex, hold);
}

bool ScheduledThread::try_lock(const void* mutex, Hold hold) {
  state_.point(*this, "tries to lock");
  if (!state_.is_free(mutex, hold)) {
    return false;
  }
  state_.acquire(*this, mutex, hold);
  return true;
}

void ScheduledThread::unlock(const void* mutex) {
  state_.release(*this, mutex);
  state_.point(*this, "has unlocked");
}

bool ScheduledThread::wait(const void* condition, const void* mutex, Deadline deadline_ns) {
  state_.release(*this, mutex);
  const bool woken =
      state_.block(*this, Waits::condition, condition, deadline_ns, "waits for a condition");
  state_.acquire(*this, mutex, Hold::alone);
  return woken;
}

void ScheduledThread::signal(const void* condition) {
  state_.point(*this, "is about to signal");
  state_.resume(Waits::condition, condition, 1);
  state_.point(*this, "has signaled");
}

void ScheduledThread::broadcast(const void* condition) {
  state_.point(*this, "is about to signal all");
  state_.resume_all(Waits::condition, condition);
  state_.point(*this, "has signaled all");
}

ScheduledThread::FutexWait ScheduledThread::futex_wait(const std::uint32_t* word,
                                                       std::uint32_t expected,
                                                       Deadline deadline_ns) {
  state_.point(*this, "is about to sleep");
  if (__atomic_load_n(word, __ATOMIC_RELAXED) != expected) {
    return FutexWait::other_value;
  }
  return state_.block(*this, Waits::futex, word, deadline_ns, "sleeps") ? FutexWait::woken
                                                                        : FutexWait::timed_out;
}

int ScheduledThread::futex_wake(const void* word, int count_max) {
  state_.point(*this, "is about to wake");
  const int woken = state_.resume(Waits::futex, word, count_max);
  state_.point(*this, "has woken");
  return woken;
}

void ScheduledThread::sleep_until(std::uint64_t deadline_ns) {
  state_.block(*this, Waits::time, nullptr, deadline_ns, "sleeps for a time");
}

void ScheduledThread::yield() {
  state_.point(*this, "yields");
  state_.demote(*this);
  state_.go_on_with(*this, *state_.choose(), "has yielded");
}

int ScheduledThread::create(pthread_t* id, const pthread_attr_t* attributes,
                            void* (*function)(void*), void* argument) {
  if (state_.start(id, attributes, function, argument) == nullptr) {
    return EAGAIN;
  }
  state_.point(*this, "has started a thread");
  return 0;
}

int ScheduledThread::join(pthread_t id, void** returned) {
  state_.point(*this, "joins");
  auto* const thread = state_.find(id);
  while (!thread->has_ended_) {
    state_.block(*this, Waits::join, thread, std::nullopt, "waits for a thread's end");
  }
  thread->is_joined_ = true;
  return next_join(id, returned);
}

std::uint64_t ScheduledThread::now_ns() const { return state_.now_ns_; }

// --- The schedule

Schedule::Schedule(std::uint64_t seed) : state_(std::make_shared<State>(seed)) {}

Schedule::~Schedule() = default;

std::string Schedule::run(std::function<void()> body) {
  if (kIsSanitized) {
    return "a sanitizer has the calls of threads for itself";
  }
  preemption_hook.store([](std::string_view name) {
    if (scheduled_thread != nullptr) {
      scheduled_thread->state_.point(*scheduled_thread, name);
    }
  });
  return state_->run(std::move(body));
}

void Schedule::call_at_point(std::uint64_t points, std::function<void()> what) {
  auto& state = scheduled_thread->state_;
  state.call_at_ = state.points_ + points;
  state.call_ = std::move(what);
}

Schedule::Undisturbed::Undisturbed()
    : before_(std::exchange(scheduled_thread->is_undisturbed_, true)) {}

Schedule::Undisturbed::~Undisturbed() { scheduled_thread->is_undisturbed_ = before_; }

void Schedule::note(std::string what) {
  auto& self = *scheduled_thread;
  if (self.state_.traced_) {
    self.state_.trace_.push_back(fmt::format("{}: {}", self.number_, what));
  }
  self.doing_ = std::move(what);
}

bool Schedule::is_traced() { return scheduled_thread->state_.traced_; }

void Schedule::set_tracing(bool on) { state_->traced_ = on; }

const std::vector<std::string>& Schedule::trace() const { return state_->trace_; }

std::uint64_t Schedule::digest() const { return state_->digest_; }

std::uint64_t Schedule::points() const { return state_->points_; }

std::uint64_t Schedule::switches() const { return state_->switches_; }

}  // namespace nori::testing
