// SIGINT and SIGTERM for a command that has something to bring to an end first.

#pragma once

#include <csignal>

namespace nori::cli {

/// While one lives, the first SIGINT or SIGTERM is only noted; the same signal again kills as ever.
/// One that the process was started to ignore stays ignored. There is one of these at a time.
///
/// Start threads under SignalsBlocked, so that it is the main thread whose waiting ends (EINTR).
class Interruption {
 public:
  Interruption();
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;
  ~Interruption();

  /// Becomes readable when a signal has come: for poll().
  [[nodiscard]] int descriptor() const noexcept;
  /// The signal that came, or 0.
  [[nodiscard]] static int signal() noexcept;
};

/// Threads started while one lives are never interrupted by those signals.
class SignalsBlocked {
 public:
  SignalsBlocked();
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  ~SignalsBlocked();

 private:
  sigset_t before_{};
};

}  // namespace nori::cli
