#include "cli/interruption.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>

namespace nori::cli {

namespace {

constexpr std::array kSignals = {SIGINT, SIGTERM};

// A handler reaches nothing but globals.
std::atomic<int> came = 0;
std::atomic<int> wake_descriptor = -1;

extern "C" void note_signal(int signal) {
  const int errno_before = errno;
  came.store(signal);
  const std::uint64_t one = 1;
  // It can only fail when it has been written before, and then it has said what it has to say.
  [[maybe_unused]] const ssize_t written = ::write(wake_descriptor.load(), &one, sizeof(one));
  errno = errno_before;
}

}  // namespace

Interruption::Interruption() {
  came = 0;
  wake_descriptor = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  for (const int signal : kSignals) {
    struct sigaction action = {};
    sigaction(signal, nullptr, &action);
    if (action.sa_handler == SIG_IGN) {
      continue;
    }
    action = {};
    action.sa_handler = note_signal;
    action.sa_flags = static_cast<int>(SA_RESETHAND);  // and no SA_RESTART: a wait has to end
    sigaction(signal, &action, nullptr);
  }
}

Interruption::~Interruption() {
  for (const int signal : kSignals) {
    struct sigaction action = {};
    sigaction(signal, nullptr, &action);
    if (action.sa_handler == note_signal) {
      action = {};
      action.sa_handler = SIG_DFL;
      sigaction(signal, &action, nullptr);
    }
  }
  ::close(wake_descriptor.exchange(-1));
}

int Interruption::descriptor() const noexcept { return wake_descriptor.load(); }

int Interruption::signal() noexcept { return came.load(); }

SignalsBlocked::SignalsBlocked() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : kSignals) {
    sigaddset(&signals, signal);
  }
  pthread_sigmask(SIG_BLOCK, &signals, &before_);
}

SignalsBlocked::~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

}  // namespace nori::cli
