// A log that grows, and the three ways to collect what nobody needs any more.

#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <thread>

#include "history.h"
#include "nori/garbage.h"
#include "nori/snapshot.h"
#include "nori/wal.h"
#include "text.h"
#include "writer.h"

namespace demo {

/// What somebody reads from a log on: the newest value of each key, with the place it came from.
struct Versioned {
  std::string value;
  nori::Epoch epoch;
  nori::Sequence sequence = 0;
};
using VersionedState = std::map<std::string, Versioned>;

inline bool equal(const VersionedState& found, const State& expected) {
  if (found.size() != expected.size()) {
    return false;
  }
  for (const auto& [key, value] : expected) {
    const auto at = found.find(key);
    if (at == found.end() || at->second.value != value) {
      return false;
    }
  }
  return true;
}

/// Replays a log from a place on into `state`. False, and a line on stderr, if it cannot be read.
inline bool replay(const nori::Wal& wal, const nori::ReadFrom& from, VersionedState& state) {
  auto reader = wal.read_from(from);
  if (!reader) {
    std::fprintf(stderr, "read: %s\n", reader.error().message.c_str());
    return false;
  }
  for (const auto& entry : *reader) {
    if (!entry) {
      std::fprintf(stderr, "read: %s\n", entry.error().message.c_str());
      return false;
    }
    if (entry->op == nori::Operation::put) {
      state[std::string(entry->key)] = {
          .value = std::string(entry->value), .epoch = entry->epoch, .sequence = entry->sequence};
    } else {
      state.erase(std::string(entry->key));
    }
  }
  return true;
}

inline std::uint64_t bytes_below(const std::filesystem::path& directory) {
  std::uint64_t bytes = 0;
  for (const auto& file : std::filesystem::recursive_directory_iterator(directory)) {
    bytes += file.is_regular_file() ? file.file_size() : 0;
  }
  return bytes;
}

/// Grows a log by several rounds of the same updates and deletions, kills compactions of it, and
/// collects its garbage in three ways, each on a copy. Every key is checked against the input.
class Garbage {
 public:
  using Wrong = std::optional<std::string>;

  Garbage(std::filesystem::path directory, const History& history, std::uint64_t seed)
      : directory_(std::move(directory)), history_(history), random_(seed) {}

  /// What went wrong, or nothing.
  Wrong run() {
    std::printf(
        "\n5. Garbage, and three ways to collect it\n\n"
        "   A log grows for ever: every update leaves the value before it behind. The same load, "
        "%d\n"
        "   times over, into one log:\n\n",
        kRounds);
    using Act = Wrong (Garbage::*)();
    for (const Act act : {&Garbage::grow, &Garbage::kill_compactions, &Garbage::delete_old,
                          &Garbage::compact, &Garbage::snapshot}) {
      if (auto wrong = (this->*act)(); wrong) {
        return wrong;
      }
    }
    std::filesystem::remove_all(directory_);
    return std::nullopt;
  }

 private:
  static constexpr int kRounds = 4;
  static constexpr int kKills = 6;

  [[nodiscard]] std::string log() const { return (directory_ / "log").string(); }

  static nori::WalOptions options_of(const std::string& log) {
    return log_options(log, nori::FsyncPolicy::os());
  }

  Wrong grow() {
    auto opened = nori::Wal::open(options_of(log()));
    if (!opened) {
      return opened.error().message;
    }
    for (int round = 0; round < kRounds; ++round) {
      if (!append_steps(opened->wal, history_, 0, history_.steps().size(), [](std::uint64_t) {})) {
        return "append failed";
      }
    }
    if (auto closed = opened->wal.close(); !closed) {
      return closed.error().message;
    }
    bytes_ = bytes_below(log());
    const auto garbage = nori::find_garbage(log());
    if (!garbage) {
      return garbage.error().message;
    }
    std::uint64_t records = 0;
    std::uint64_t live = 0;
    for (const auto& segment : *garbage) {
      records += segment.records;
      live += segment.records_live;
    }
    std::printf("   %s records, %s of them live: wasted space %.0f %%, %s on disk.\n\n",
                grouped(records).c_str(), grouped(live).c_str(),
                100.0 * static_cast<double>(records - live) / static_cast<double>(records),
                in_megabytes(bytes_).c_str());
    return std::nullopt;
  }

  // A second process compacts, and is killed at a random moment; what is left is the same state.
  Wrong kill_compactions() {
    const auto copy = copied("killed");
    std::uint64_t in_time = 0;
    for (int kill = 0; kill < kKills; ++kill) {
      std::fflush(nullptr);
      const auto process = ::fork();
      if (process == 0) {
        auto opened = nori::Wal::open(options_of(copy));
        if (!opened || !opened->wal.compact()) {
          ::_exit(1);
        }
        for (;;) {
          ::pause();
        }
      }
      const auto writes = std::filesystem::path(copy) / "compact.tmp";
      if (kill % 2 == 1) {  // while it reads, or from when it writes
        for (int i = 0; i < 1000 && !std::filesystem::exists(writes); ++i) {
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
      }
      std::this_thread::sleep_for(
          std::chrono::microseconds(std::uniform_int_distribution<int>(500, 30'000)(random_)));
      ::kill(process, SIGKILL);
      int status = 0;
      ::waitpid(process, &status, 0);
      if (!WIFSIGNALED(status)) {
        return "the compaction failed before it was killed";
      }
      in_time += std::filesystem::exists(writes) ? 1 : 0;
      if (auto wrong = check(copy, nori::begin_of_log, {}, history_.final_state())) {
        return "after a compaction was killed: " + *wrong;
      }
    }
    std::printf(
        "   A compaction killed %d times, %s of them while it was writing: each time every key\n"
        "   had its value.\n\n",
        kKills, grouped(in_time).c_str());
    return std::nullopt;
  }

  // Strategy 1: what is old goes. What is left is the end of the log.
  Wrong delete_old() {
    const auto copy = copied("retention");
    auto opened = nori::Wal::open(options_of(copy));
    if (!opened) {
      return opened.error().message;
    }
    const auto deleted =
        opened->wal.apply_retention({.max_age = {}, .max_bytes = bytes_ / kRounds});
    if (!deleted) {
      return deleted.error().message;
    }
    const auto first = opened->wal.stats().first_sequence;
    if (auto closed = opened->wal.close(); !closed) {
      return closed.error().message;
    }
    State expected;
    for (auto number = first; number < kRounds * history_.steps().size(); ++number) {
      const auto& step = history_.steps()[number % history_.steps().size()];
      apply(expected, step.op, step.key, step.value);
    }
    if (auto wrong = check(copy, nori::begin_of_log, {}, expected)) {
      return "after retention: " + *wrong;
    }
    print("old segments deleted", copy, "the newest records, for logs of events");
    return std::nullopt;
  }

  // Strategy 2: of each key the newest record is kept.
  Wrong compact() {
    const auto copy = copied("compaction");
    auto opened = nori::Wal::open(options_of(copy));
    if (!opened) {
      return opened.error().message;
    }
    if (const auto report = opened->wal.compact(); !report) {
      return report.error().message;
    }
    if (auto closed = opened->wal.close(); !closed) {
      return closed.error().message;
    }
    if (auto wrong = check(copy, nori::begin_of_log, {}, history_.final_state())) {
      return "after compaction: " + *wrong;
    }
    print("compacted", copy, "the newest record of each key");
    return std::nullopt;
  }

  // Strategy 3: the state is written down, and what made it goes.
  Wrong snapshot() {
    const auto copy = copied("snapshot");
    auto opened = nori::Wal::open(options_of(copy));
    if (!opened) {
      return opened.error().message;
    }
    auto& wal = opened->wal;
    VersionedState state;
    if (!replay(wal, nori::begin_of_log, state)) {
      return "read failed";
    }
    const auto at = wal.current_position();
    auto writer = nori::SnapshotWriter::begin(wal, at);
    if (!writer) {
      return writer.error().message;
    }
    for (const auto& [key, made] : state) {
      nori::SnapshotEntry entry;
      entry.key = key;
      entry.value = made.value;
      entry.epoch = made.epoch;
      entry.sequence = made.sequence;
      if (auto added = writer->add(entry); !added) {
        return added.error().message;
      }
    }
    if (const auto written = writer->finish(); !written) {
      return written.error().message;
    }
    if (auto rotated = wal.rotate(); !rotated) {
      return rotated.error().message;
    }
    if (const auto deleted = wal.delete_segments_before(at); !deleted) {
      return deleted.error().message;
    }
    if (auto closed = wal.close(); !closed) {
      return closed.error().message;
    }
    auto snapshot = nori::SnapshotReader::open(copy);
    if (!snapshot || !snapshot->reader) {
      return "the snapshot cannot be opened";
    }
    VersionedState restored;
    for (;;) {
      const auto entry = snapshot->reader->next();
      if (!entry) {
        return entry.error().message;
      }
      if (!*entry) {
        break;
      }
      restored[std::string((*entry)->key)] = {.value = std::string((*entry)->value),
                                              .epoch = (*entry)->epoch,
                                              .sequence = (*entry)->sequence};
    }
    if (auto wrong = check(copy, at, std::move(restored), history_.final_state())) {
      return "after a snapshot: " + *wrong;
    }
    print("snapshot, log deleted", copy, "the state, and what is appended from now on");
    return std::nullopt;
  }

  std::string copied(const char* name) const {
    const auto copy = directory_ / name;
    std::filesystem::copy(log(), copy, std::filesystem::copy_options::recursive);
    return copy.string();
  }

  void print(const char* what, const std::string& copy, const char* keeps) const {
    std::printf("   %-22s %9s -> %9s   keeps %s\n", what, in_megabytes(bytes_).c_str(),
                in_megabytes(bytes_below(copy)).c_str(), keeps);
    std::filesystem::remove_all(copy);
  }

  // Whether the log, from a place on, makes of `state` what is expected.
  static Wrong check(const std::string& log, const nori::ReadFrom& from, VersionedState state,
                     const State& expected) {
    auto options = options_of(log);
    options.mode = nori::OpenMode::read_only;
    const auto opened = nori::Wal::open(options);
    if (!opened) {
      return opened.error().message;
    }
    if (!replay(opened->wal, from, state)) {
      return "the log cannot be read";
    }
    if (!equal(state, expected)) {
      return "the keys do not have the values that the input adds up to";
    }
    return std::nullopt;
  }

  const std::filesystem::path directory_;
  const History& history_;
  std::mt19937_64 random_;
  std::uint64_t bytes_ = 0;
};

}  // namespace demo
