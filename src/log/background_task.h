// What one log does in the background: a step, run again and again by threads that many may share.

#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>

#include "nori/background_threads.h"

namespace nori {

/// A step that BackgroundThreads run: when it was woken, and at the time it answered last. Never
/// twice at once.
///
/// Threads: any.
class BackgroundTask {
 public:
  using Clock = std::chrono::steady_clock;
  /// Answers when it is to run again if nobody wakes it before; nothing: then only. Throws nothing.
  using Step = std::function<std::optional<Clock::time_point>()>;

  /// Runs for the first time when it is woken.
  BackgroundTask(std::shared_ptr<BackgroundThreads> threads, Step step);
  ~BackgroundTask();
  BackgroundTask(const BackgroundTask&) = delete;
  BackgroundTask& operator=(const BackgroundTask&) = delete;

  /// The step runs soon; once more if it is running. Allocates nothing.
  void wake() noexcept;

  /// On return the step does not run, and never will. Not called within a step.
  void end() noexcept;

 private:
  friend class BackgroundThreads;
  struct State;
  const std::shared_ptr<BackgroundThreads> threads_;
  const std::unique_ptr<State> state_;
};

}  // namespace nori
