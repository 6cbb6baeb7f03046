// A process of its own that appends the history to the log, and says how far it has come until it
// is killed.

#pragma once

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <utility>

#include "history.h"
#include "nori/wal.h"

namespace demo {

/// What a writer says of its opening of the log.
struct Recovery {
  std::uint64_t records_checked = 0;
  std::uint64_t records_from_ring = 0;
  std::uint64_t bytes_cut = 0;
  std::uint64_t next_sequence = 0;
  bool closed_cleanly = false;
  std::chrono::nanoseconds time_taken{0};
  std::array<char, 256> reason{};

  static Recovery of(const nori::RecoveryInfo& info) {
    Recovery recovery{.records_checked = info.valid_records,
                      .records_from_ring = info.records_from_ring,
                      .bytes_cut = info.bytes_truncated,
                      .next_sequence = info.next_sequence,
                      .closed_cleanly = info.closed_cleanly,
                      .time_taken = info.time_taken};
    info.reason.copy(recovery.reason.data(), recovery.reason.size() - 1);
    return recovery;
  }
};

inline nori::WalOptions log_options(const std::string& directory, nori::FsyncPolicy policy) {
  nori::WalOptions options;
  options.directory = directory;
  options.fsync = policy;
  options.segment_bytes = 2 * nori::kMiB;  // small, so that there are some to see
  options.ring_bytes = nori::kMiB;
  return options;
}

/// Appends the steps [first, end) in order; calls `appended(n)` when the first n of the history are
/// appended. False, and a line on stderr, if an append failed.
template <typename Function>
bool append_steps(nori::Wal& wal, const History& history, std::uint64_t first, std::uint64_t end,
                  Function appended) {
  nori::Batch batch;
  const auto failed = [](const nori::Error& error) {
    std::fprintf(stderr, "append: %s\n", error.message.c_str());
    return false;
  };
  for (auto number = first; number < end; ++number) {
    const auto& step = history.steps()[number];
    if (batch.empty() && step.ends_batch) {
      if (const auto done = wal.append(step.record()); !done) {
        return failed(done.error());
      }
    } else {
      batch.add(step.record());
      if (!step.ends_batch) {
        continue;
      }
      if (const auto done = wal.append(batch); !done) {
        return failed(done.error());
      }
      batch.clear();
    }
    appended(number + 1);
  }
  return true;
}

/// The writer, as the process that is going to kill it sees it.
class Writer {
 public:
  Writer(const std::string& directory, nori::FsyncPolicy policy, const History& history) {
    std::array<int, 2> reports{};
    std::array<int, 2> acknowledgments{};
    if (::pipe(reports.data()) != 0 || ::pipe(acknowledgments.data()) != 0) {
      std::perror("pipe");
      return;
    }
    std::fflush(nullptr);
    process_ = ::fork();
    // The log is opened on this side of the fork: a Wal never crosses one.
    if (process_ == 0) {
      ::close(reports[0]);
      ::close(acknowledgments[0]);
      run(directory, policy, history, reports[1], acknowledgments[1]);
    }
    ::close(reports[1]);
    ::close(acknowledgments[1]);
    reports_ = reports[0];
    acknowledgments_ = acknowledgments[0];
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  ~Writer() {
    kill();
    ::close(reports_);
    ::close(acknowledgments_);
  }

  /// Waits until it has opened the log. Nothing if it could not.
  std::optional<Recovery> opened() {
    Recovery recovery;
    if (::read(reports_, &recovery, sizeof(recovery)) != sizeof(recovery)) {
      return std::nullopt;
    }
    acknowledged_ = recovery.next_sequence;
    return recovery;
  }

  /// Listens until it has acknowledged `count` records, but not longer than `time`.
  void listen(std::uint64_t count, std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (acknowledged_ < count && std::chrono::steady_clock::now() < end) {
      pollfd ready{.fd = acknowledgments_, .events = POLLIN, .revents = 0};
      if (::poll(&ready, 1, 1) == 1 && !hear()) {
        return;
      }
    }
  }

  /// Kills it. False if it had ended by itself, which it must not.
  bool kill() {
    if (process_ <= 0) {
      return false;
    }
    ::kill(process_, SIGKILL);
    int status = 0;
    ::waitpid(std::exchange(process_, -1), &status, 0);
    while (hear()) {
    }
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
  }

  /// For how many records of the history it has said that append() returned.
  [[nodiscard]] std::uint64_t acknowledged() const { return acknowledged_; }

 private:
  // Takes what has been acknowledged. False at the end.
  bool hear() {
    std::array<std::uint64_t, 512> counts{};
    const auto bytes = ::read(acknowledgments_, counts.data(), sizeof(counts));
    if (bytes <= 0) {
      return false;
    }
    acknowledged_ = counts[static_cast<std::size_t>(bytes) / sizeof(counts[0]) - 1];
    return true;
  }

  // The life of the process. Both descriptors are the writing ends.
  [[noreturn]] static void run(const std::string& directory, nori::FsyncPolicy policy,
                               const History& history, int reports, int acknowledgments) {
    auto opened = nori::Wal::open(log_options(directory, policy));
    if (!opened) {
      std::fprintf(stderr, "open: %s\n", opened.error().message.c_str());
      ::_exit(1);
    }
    const auto recovery = Recovery::of(opened->recovery);
    bool heard = ::write(reports, &recovery, sizeof(recovery)) == sizeof(recovery);
    append_steps(opened->wal, history, recovery.next_sequence, history.steps().size(),
                 [&](std::uint64_t count) {
                   heard =
                       heard && ::write(acknowledgments, &count, sizeof(count)) == sizeof(count);
                   if (!heard) {
                     ::_exit(1);
                   }
                 });
    for (;;) {
      ::pause();  // all is appended: wait for the end
    }
  }

  pid_t process_ = -1;
  int reports_ = -1;
  int acknowledgments_ = -1;
  std::uint64_t acknowledged_ = 0;
};

}  // namespace demo
