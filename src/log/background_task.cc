#include "log/background_task.h"

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "io/file_system.h"

namespace nori {

using Clock = BackgroundTask::Clock;

struct BackgroundTask::State {
  using Timers = std::multimap<Clock::time_point, State*>;

  Step step;
  // Guarded by the pool's mutex.
  State* next_ready = nullptr;
  bool is_ready = false;  ///< In the list of those to run.
  bool is_running = false;
  bool is_wanted = false;  ///< Woken while it ran.
  bool is_ending = false;  ///< Does not run again.
  // Its entry among the timers: in there, or out here, so that waiting for a time allocates
  // nothing.
  std::optional<Timers::iterator> timer;
  Timers::node_type spare_timer;
};

class BackgroundThreads::Pool {
 public:
  using Task = BackgroundTask::State;

  void run() {
    std::unique_lock lock(mutex_);
    while (!is_ending_) {
      for (const auto now = Clock::now(); !timers_.empty() && timers_.begin()->first <= now;) {
        make_ready(*timers_.begin()->second);
      }
      if (first_ready_ != nullptr) {
        run_first(lock);
      } else if (timers_.empty()) {
        wanted_.wait(lock);
      } else {
        const auto until = timers_.begin()->first;  // it may go meanwhile
        wanted_.wait_until(lock, until);
      }
    }
  }

  void end() noexcept {
    const std::lock_guard lock(mutex_);
    is_ending_ = true;
    wanted_.notify_all();
  }

  void wake(Task& task) noexcept {
    const std::lock_guard lock(mutex_);
    if (task.is_running) {
      task.is_wanted = true;
    } else {
      make_ready(task);
      wanted_.notify_one();
    }
  }

  void remove(Task& task) noexcept {
    std::unique_lock lock(mutex_);
    task.is_ending = true;
    finished_.wait(lock, [&] { return !task.is_running; });
    clear_timer(task);
    if (task.is_ready) {
      Task** place = &first_ready_;
      Task* before = nullptr;
      while (*place != &task) {
        before = *place;
        place = &before->next_ready;
      }
      *place = task.next_ready;
      last_ready_ = last_ready_ == &task ? before : last_ready_;
      task.is_ready = false;
    }
  }

  std::vector<std::thread> threads;
  const std::uint64_t fork_generation = io::fork_generation();

 private:
  // All with mutex_.

  void make_ready(Task& task) noexcept {
    clear_timer(task);
    if (!task.is_ready && !task.is_ending) {
      task.is_ready = true;
      task.next_ready = nullptr;
      (last_ready_ == nullptr ? first_ready_ : last_ready_->next_ready) = &task;
      last_ready_ = &task;
    }
  }

  void clear_timer(Task& task) noexcept {
    if (task.timer) {
      task.spare_timer = timers_.extract(*task.timer);
      task.timer.reset();
    }
  }

  void run_first(std::unique_lock<std::mutex>& lock) {
    Task& task = *first_ready_;
    first_ready_ = task.next_ready;
    last_ready_ = first_ready_ == nullptr ? nullptr : last_ready_;
    task.is_ready = false;
    task.is_running = true;
    if (first_ready_ != nullptr || !timers_.empty()) {
      wanted_.notify_one();  // to look after those while this thread cannot
    }
    lock.unlock();
    const auto again = task.step();
    lock.lock();
    task.is_running = false;
    if (task.is_ending) {
      finished_.notify_all();
    } else if (std::exchange(task.is_wanted, false)) {
      make_ready(task);
    } else if (again) {
      task.spare_timer.key() = *again;
      task.timer = timers_.insert(std::move(task.spare_timer));
    }
  }

  std::mutex mutex_;
  std::condition_variable wanted_;    ///< For the threads: something to do, or a nearer time.
  std::condition_variable finished_;  ///< The step of a task that ends.
  Task* first_ready_ = nullptr;
  Task* last_ready_ = nullptr;
  Task::Timers timers_;
  bool is_ending_ = false;
};

BackgroundThreads::BackgroundThreads(unsigned count) : pool_(std::make_shared<Pool>()) {
  static_cast<void>(io::posix_file_system());  // which counts forks from its first use on
  constexpr unsigned kCountMax = 64;
  const auto clamped = std::clamp(count, 1U, kCountMax);
  pool_->threads.reserve(clamped);
  try {
    while (pool_->threads.size() < clamped) {
      pool_->threads.emplace_back([pool = pool_] { pool->run(); });
    }
  } catch (...) {
    pool_->end();
    std::ranges::for_each(pool_->threads, &std::thread::join);
    throw;
  }
}

BackgroundThreads::~BackgroundThreads() {
  if (pool_->fork_generation != io::fork_generation()) {
    // The threads are not in this process. What they held of the pool is never given back, so it
    // stays.
    return;
  }
  pool_->end();
  // Not called by one of them: a task, which lives while its step runs, refers to this.
  std::ranges::for_each(pool_->threads, &std::thread::join);
}

BackgroundTask::BackgroundTask(std::shared_ptr<BackgroundThreads> threads, Step step)
    : threads_(std::move(threads)), state_(std::make_unique<State>()) {
  state_->step = std::move(step);
  State::Timers one;
  one.emplace(Clock::time_point{}, state_.get());
  state_->spare_timer = one.extract(one.begin());
}

BackgroundTask::~BackgroundTask() { end(); }

void BackgroundTask::end() noexcept { threads_->pool_->remove(*state_); }

void BackgroundTask::wake() noexcept { threads_->pool_->wake(*state_); }

}  // namespace nori
