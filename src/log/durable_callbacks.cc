#include "log/durable_callbacks.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <new>
#include <span>
#include <system_error>
#include <utility>

#include "base/make_error.h"

namespace nori {
namespace {

// After memory ran out.
constexpr std::chrono::milliseconds kRetryAfter{20};
// Taken off the queue under one lock.
constexpr std::size_t kCalledAtOnce = 256;

// Whose thread this is.
thread_local const DurableCallbacks* thread_of = nullptr;

}  // namespace

bool DurableCallbacks::is_within_callback() const noexcept { return thread_of == this; }

DurableCallbacks::~DurableCallbacks() { static_cast<void>(finish()); }

Result<void> DurableCallbacks::add(Sequence target, DurableCallback callback) {
  std::unique_lock lock(mutex_);
  while (!is_finishing_ && pending_.size() >= kPendingMax) {
    if (is_within_callback()) {
      return make_error(ErrorCode::would_block,
                        "{} callbacks are waiting to be called, which is the most; register when "
                        "this one has returned",
                        kPendingMax);
    }
    room_.wait(lock);
  }
  if (is_finishing_) {
    return make_error(ErrorCode::closed, "the log is being closed");
  }
  // Nearly always at the end.
  const auto place =
      std::upper_bound(pending_.begin(), pending_.end(), target,
                       [](Sequence wanted, const Pending& other) { return wanted < other.target; });
  pending_.insert(place, Pending{.target = target, .callback = std::move(callback)});
  if (!thread_.joinable()) {
    try {
      thread_ = std::thread([this] { run(); });
    } catch (const std::system_error& error) {
      pending_.clear();  // there was no other
      return make_error(ErrorCode::io, "no thread could be started to call back: {}", error.what());
    }
  } else if (is_idle_) {
    is_idle_ = false;
    wanted_.notify_one();
  }
  return {};
}

bool DurableCallbacks::finish() {
  if (is_within_callback()) {
    return false;
  }
  {
    const std::lock_guard lock(mutex_);
    is_finishing_ = true;
    wanted_.notify_one();
    room_.notify_all();
  }
  if (thread_.joinable()) {
    thread_.join();
  }
  return true;
}

std::uint64_t DurableCallbacks::pending() const {
  const std::lock_guard lock(mutex_);
  return pending_.size();
}

void DurableCallbacks::run() {
  thread_of = this;
  for (;;) {
    Sequence target = 0;
    {
      std::unique_lock lock(mutex_);
      while (pending_.empty() && !is_finishing_) {
        is_idle_ = true;
        wanted_.wait(lock);
      }
      is_idle_ = false;
      if (pending_.empty()) {
        return;
      }
      target = pending_.back().target;
    }
    try {
      // Those that come meanwhile wait for the next flush.
      call_up_to(target, log_.commit(target));
      log_.deliver_events();
    } catch (const std::bad_alloc&) {
      std::this_thread::sleep_for(kRetryAfter);
    }
  }
}

// Allocates nothing, so that each is called once.
void DurableCallbacks::call_up_to(Sequence target, const Result<void>& outcome) {
  const Result<void> success;
  const auto durable = outcome ? target : log_.durable_sequence();
  std::array<Pending, kCalledAtOnce> due;
  std::size_t count = 0;
  do {
    count = 0;
    {
      const std::lock_guard lock(mutex_);
      while (!pending_.empty() && pending_.front().target <= target && count < due.size()) {
        due[count++] = std::move(pending_.front());
        pending_.pop_front();
      }
      room_.notify_all();
    }
    for (auto& pending : std::span(due).first(count)) {
      try {
        pending.callback(pending.target <= durable ? success : outcome);
      } catch (...) {
        exceptions_.fetch_add(1, std::memory_order_relaxed);
      }
      pending.callback = nullptr;  // with what it holds
    }
  } while (count != 0);
}

}  // namespace nori
