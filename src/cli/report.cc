#include "cli/report.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <system_error>
#include <utility>

#include "cli/output.h"

namespace nori::cli {

int exit_code_of(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::not_a_log:
    case ErrorCode::damaged:
    case ErrorCode::gone:
    case ErrorCode::not_a_record:
      return kExitNotThere;
    case ErrorCode::invalid_argument:
      return kExitUsage;
    case ErrorCode::unsupported_version:
    case ErrorCode::permission:
    case ErrorCode::locked:
    case ErrorCode::too_large:
    case ErrorCode::no_space:
    case ErrorCode::io:
    case ErrorCode::closed:
    case ErrorCode::busy:
    case ErrorCode::would_block:
      break;
  }
  return kExitFailed;
}

void complain(std::string_view message) {
  std::string line = fmt::format("nori: {}\n", message);
  std::string_view rest = line;
  while (!rest.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, rest.data(), rest.size());
    if (written < 0) {
      if (errno == EINTR) {
        continue;
      }
      return;  // nobody listens
    }
    rest.remove_prefix(static_cast<std::size_t>(written));
  }
}

int report(const Error& error) {
  complain(error.message);
  return exit_code_of(error.code);
}

int report_output_failure(int system_errno) {
  if (system_errno == EPIPE) {
    return kExitBySignal + SIGPIPE;
  }
  complain(fmt::format("standard output: {}; write it to another place", errno_text(system_errno)));
  return kExitFailed;
}

int print(std::string text, int exit_code) {
  Output output(STDOUT_FILENO);
  output.text() = std::move(text);
  return output.flush() ? exit_code : report_output_failure(output.failure());
}

std::string errno_text(int system_errno) { return std::generic_category().message(system_errno); }

void end_by_signal(int signal) {
  struct sigaction action = {};
  action.sa_handler = SIG_DFL;
  sigaction(signal, &action, nullptr);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, signal);
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  ::raise(signal);
  ::_exit(kExitBySignal + signal);
}

}  // namespace nori::cli
