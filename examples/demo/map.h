// A store on the real data: loaded, updated, killed, opened again, compacted; and how a log grows.

#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "garbage.h"
#include "history.h"
#include "nori/store.h"
#include "text.h"

namespace demo {

class Map {
 public:
  using Wrong = std::optional<std::string>;

  Map(std::filesystem::path directory, const History& history, std::uint64_t seed)
      : directory_(std::move(directory)), history_(history), random_(seed) {}

  /// What went wrong, or nothing.
  Wrong run() {
    std::printf(
        "\n6. A map on the log\n\n"
        "   nori::Store: the same records as keys and values in memory, and in a log.\n\n");
    using Act = Wrong (Map::*)();
    for (const Act act : {&Map::kill_loads, &Map::open_it, &Map::grow}) {
      if (auto wrong = (this->*act)(); wrong) {
        return wrong;
      }
    }
    std::filesystem::remove_all(directory_);
    return std::nullopt;
  }

 private:
  static constexpr int kKills = 5;
  static constexpr int kRounds = 3;

  using Clock = std::chrono::steady_clock;

  static nori::StoreOptions options_of(const std::filesystem::path& directory) {
    nori::StoreOptions options;
    options.wal.directory = directory;
    options.wal.fsync = nori::FsyncPolicy::os();
    options.wal.segment_bytes = 4 * nori::kMiB;
    options.checkpoints.garbage_ratio = 0;  // when the demo says so
    return options;
  }

  // The steps of one atomic unit, from `at` on; how many there are.
  std::size_t write_unit(nori::Store& store, std::size_t at, Wrong& wrong) const {
    nori::Batch batch;
    std::size_t count = 0;
    do {
      batch.add(history_.steps()[at + count].record());
    } while (!history_.steps()[at + count++].ends_batch);
    if (const auto written = store.write(batch); !written) {
      wrong = written.error().message;
    }
    return count;
  }

  // A second process loads, checkpoints now and then, and is killed; what is left is a beginning of
  // the input. The next one goes on.
  Wrong kill_loads() {
    const auto directory = directory_ / "store";
    std::filesystem::create_directories(directory_);
    std::uint64_t from_snapshot = 0;
    bool was_a_log = false;
    for (int kill = 0; kill <= kKills; ++kill) {
      std::fflush(nullptr);
      const auto process = ::fork();
      if (process == 0) {
        ::_exit(load(directory, kill == kKills) ? 0 : 1);
      }
      if (kill < kKills) {
        std::this_thread::sleep_for(
            std::chrono::milliseconds(std::uniform_int_distribution<int>(5, 120)(random_)));
        ::kill(process, SIGKILL);
      }
      int status = 0;
      ::waitpid(process, &status, 0);
      if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        return "the process that loads failed";
      }
      auto options = options_of(directory);
      options.wal.mode = nori::OpenMode::read_only;
      const auto opened = nori::Store::open(options);
      if (!opened) {
        if (opened.error().code == nori::ErrorCode::not_a_log && !was_a_log && kill < kKills) {
          continue;  // killed before it was one
        }
        return opened.error().message;
      }
      was_a_log = true;
      from_snapshot += opened->recovery.snapshot ? 1 : 0;
      if (auto wrong = compare(opened->store)) {
        return "after kill " + std::to_string(kill + 1) + ": " + *wrong;
      }
    }
    std::printf(
        "   Loaded by a process that was killed %d times: each time the map was a beginning of "
        "the\n"
        "   input, whole batches, %s times opened from a snapshot and the log behind it.\n",
        kKills, grouped(from_snapshot).c_str());
    return std::nullopt;
  }

  bool load(const std::filesystem::path& directory, bool to_the_end) const {
    auto opened = nori::Store::open(options_of(directory));
    if (!opened) {
      return false;
    }
    auto& store = opened->store;
    Wrong wrong;
    std::size_t units = 0;
    const auto all = kRounds * history_.steps().size();
    for (auto at = store.view()->sequence(); at < all && !wrong;) {
      at += write_unit(store, at % history_.steps().size(), wrong);
      if (++units % 10'000 == 0 && !store.checkpoint()) {
        return false;
      }
    }
    if (wrong || !to_the_end) {
      for (;;) {
        ::pause();  // until it is killed
      }
    }
    return static_cast<bool>(store.close());
  }

  // Whether the map is what so many steps of the input add up to.
  Wrong compare(const nori::Store& store) const {
    const auto view = store.view();
    const auto steps = history_.steps().size();
    const auto end = view->sequence();
    if (end % steps != 0 && !history_.steps()[end % steps - 1].ends_batch) {
      return "a batch was split";
    }
    State expected = end < steps ? State{} : history_.final_state();
    for (std::uint64_t number = end / steps * steps; number < end; ++number) {
      const auto& step = history_.steps()[number % steps];
      apply(expected, step.op, step.key, step.value);
    }
    auto scan = view->scan();
    for (const auto& [key, value] : expected) {
      const auto entry = scan.next();
      if (!entry || entry->key != key || entry->value != value) {
        return "\"" + key + "\" does not have the value that the input adds up to";
      }
    }
    return scan.next() ? Wrong("there is a key too many") : std::nullopt;
  }

  Wrong open_and_tell(const char* what) const {
    const auto directory = directory_ / "store";
    const auto began = Clock::now();
    auto opened = nori::Store::open(options_of(directory));
    if (!opened) {
      return opened.error().message;
    }
    const auto took = Clock::now() - began;
    std::printf(
        "   %-28s %6s ms: %s entries and %s records, %s keys, %s on disk\n", what,
        decimal(in_milliseconds(took)).c_str(), grouped(opened->recovery.snapshot_entries).c_str(),
        grouped(opened->recovery.records_replayed).c_str(),
        grouped(opened->store.stats().keys).c_str(), in_megabytes(bytes_below(directory)).c_str());
    return compare(opened->store);
  }

  Wrong open_it() {
    const auto snapshots = directory_ / "store" / "snapshots";
    const auto aside = directory_ / "aside";
    std::printf("\n   Opening it:\n\n");
    std::filesystem::rename(snapshots, aside);
    if (auto wrong = open_and_tell("from the log alone")) {
      return wrong;
    }
    std::filesystem::remove_all(snapshots);
    std::filesystem::rename(aside, snapshots);
    if (auto wrong = open_and_tell("from its last snapshot")) {
      return wrong;
    }
    {
      auto opened = nori::Store::open(options_of(directory_ / "store"));
      if (!opened) {
        return opened.error().message;
      }
      if (const auto compacted = opened->store.compact(); !compacted) {
        return compacted.error().message;
      }
    }
    return open_and_tell("compacted");
  }

  // The growth of a log whose keys are written again and again, and what compacting leaves.
  Wrong grow() {
    std::printf(
        "\n   What writes take on disk, and compacted. A hundred keys, values of 100 bytes.\n\n"
        "      writes   synced                      bytes on disk   a write   compacted\n");
    for (const std::uint64_t writes : {1'000U, 10'000U, 100'000U, 1'000'000U}) {
      for (const std::uint64_t threads : {0U, 1U, 64U}) {
        if (threads == 1 && writes > 10'000) {
          continue;  // minutes of waiting for the disk
        }
        if (auto wrong = grow_by(writes, threads)) {
          return wrong;
        }
      }
    }
    return std::nullopt;
  }

  // Synced by so many threads, or not at all.
  Wrong grow_by(std::uint64_t writes, std::uint64_t threads) {
    const auto directory = directory_ / "growth";
    auto options = options_of(directory);
    options.wal.fsync = threads > 0 ? nori::FsyncPolicy::always() : nori::FsyncPolicy::os();
    const auto write = [&](nori::Store& store, std::uint64_t from) {
      for (auto i = from; i < writes; i += std::max<std::uint64_t>(threads, 1)) {
        const auto number = std::to_string(i % 100);
        if (!store.put("key/" + number, std::string(100 - number.size(), 'v') + number)) {
          return;
        }
      }
    };
    std::uint64_t before = 0;
    {
      auto opened = nori::Store::open(options);
      if (!opened) {
        return opened.error().message;
      }
      auto& store = opened->store;
      {
        std::vector<std::jthread> others;
        for (std::uint64_t thread = 1; thread < threads; ++thread) {
          others.emplace_back([&write, &store, thread] { write(store, thread); });
        }
        write(store, 0);
      }
      if (store.view()->sequence() != writes) {
        return store.sync() ? "not all was written" : store.sync().error().message;
      }
      if (const auto closed = store.close(); !closed) {
        return closed.error().message;
      }
      before = bytes_below(directory);
    }
    {
      auto opened = nori::Store::open(options);
      if (!opened) {
        return opened.error().message;
      }
      if (const auto compacted = opened->store.compact(); !compacted) {
        return compacted.error().message;
      }
      if (opened->store.stats().keys != 100) {
        return "a hundred keys were written, and others are there";
      }
    }
    std::printf("   %9s   %-22s %18s %9.0f %11s\n", grouped(writes).c_str(),
                threads == 0   ? "no"
                : threads == 1 ? "one by one"
                               : "each, by 64 threads",
                grouped(before).c_str(), static_cast<double>(before) / static_cast<double>(writes),
                grouped(bytes_below(directory)).c_str());
    std::filesystem::remove_all(directory);
    return std::nullopt;
  }

  const std::filesystem::path directory_;
  const History& history_;
  std::mt19937_64 random_;
};

}  // namespace demo
