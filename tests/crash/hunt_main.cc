// Looks for a simulation that fails, on all cores, until its time is up.
//
//   crash_hunt [--seconds N] [--first-seed N] [--jobs N]   look for one; print it, made small
//   crash_hunt --seed N                                    that one alone, with all the disk did
//   crash_hunt --threads ...                               the same with simulations of threads
//   crash_hunt --script FILE                               one that was printed
//
// Exit code: 0 none failed, 1 one did, 2 usage.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "testing/schedule/threaded_simulation.h"
#include "testing/simulation.h"

namespace {

using nori::testing::Simulation;
using Clock = std::chrono::steady_clock;

int report(const Simulation& simulation, std::string_view what) {
  const auto fails = [](const Simulation& smaller) { return !simulate(smaller).empty(); };
  const auto small = shrink(simulation, fails);
  std::vector<std::string> trace;
  const auto wrong = simulate(small, &trace);
  fmt::print(
      "{}\n\n{}\nIt was: {}\nMade small; as a file in tests/crash/scripts/ it is a test:\n{}",
      fmt::join(trace, "\n"), wrong, what, to_text(small));
  return 1;
}

int run_one(const Simulation& simulation) {
  std::vector<std::string> trace;
  const auto wrong = simulate(simulation, &trace);
  if (!wrong.empty()) {
    return report(simulation, wrong);
  }
  fmt::print("{}\n\n{} lives, nothing wrong\n", fmt::join(trace, "\n"), simulation.lives.size());
  return 0;
}

int run_one_with_threads(std::uint64_t seed) {
  std::vector<std::string> trace;
  const auto run = nori::testing::simulate_threads(seed, &trace);
  fmt::print("{}\n\n", fmt::join(trace, "\n"));
  if (!run.wrong.empty()) {
    fmt::print("seed {}: {}\n", seed, run.wrong);
    return 1;
  }
  fmt::print("{} lives, nothing wrong\n", run.lives);
  return 0;
}

// What became of one simulation.
struct Outcome {
  std::uint64_t lives = 0;
  std::string wrong;
};

Outcome simulate_one_thread(std::uint64_t seed) {
  const auto simulation = nori::testing::random_simulation(seed);
  return {.lives = simulation.lives.size(), .wrong = simulate(simulation)};
}

Outcome simulate_some_threads(std::uint64_t seed) {
  auto run = nori::testing::simulate_threads(seed);
  return {.lives = run.lives, .wrong = std::move(run.wrong)};
}

struct Found {
  std::uint64_t seed = 0;
  std::string wrong;
};

// Returns what one found, after saying how many there were.
std::optional<Found> hunt(Outcome (*try_seed)(std::uint64_t), double seconds,
                          std::uint64_t first_seed, unsigned jobs) {
  const auto begin = Clock::now();
  const auto deadline =
      begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  std::atomic<std::uint64_t> next_seed = first_seed;
  std::atomic<std::uint64_t> lives = 0;
  std::mutex mutex;
  std::optional<Found> found;
  std::atomic<bool> stop = false;
  const auto try_next = [&] {
    const auto seed = next_seed.fetch_add(1);
    auto outcome = try_seed(seed);
    lives += outcome.lives;
    if (!outcome.wrong.empty()) {
      stop = true;
      const std::lock_guard lock(mutex);
      if (!found || seed < found->seed) {
        found = Found{.seed = seed, .wrong = std::move(outcome.wrong)};
      }
    }
  };
  // What is made once in a process is made by then: a thread of one schedule cannot wait for that
  // of another.
  try_next();
  {
    std::vector<std::jthread> threads;
    for (unsigned job = 0; job < jobs; ++job) {
      threads.emplace_back([&] {
        while (!stop && Clock::now() < deadline) {
          try_next();
        }
      });
    }
  }
  const std::chrono::duration<double> taken = Clock::now() - begin;
  fmt::print(
      "{} simulations from seed {}, {} crashes and recoveries in {:.1f} s on {} threads: {:.0f} a "
      "second\n",
      next_seed.load() - first_seed, first_seed, lives.load(), taken.count(), jobs,
      static_cast<double>(lives.load()) / taken.count());
  if (found) {
    fmt::print("seed {}\n", found->seed);
  }
  return found;
}

}  // namespace

int main(int argc, char** argv) {
  double seconds = 10;
  std::optional<std::uint64_t> seed;
  std::uint64_t first_seed = std::uint64_t{std::random_device{}()} << 16;
  std::string script;
  bool threads = false;
  unsigned jobs = std::max(1U, std::thread::hardware_concurrency());
  CLI::App app("Looks for a crash that the log does not survive");
  app.add_option("--seconds", seconds, "How long to look");
  app.add_option("--first-seed", first_seed, "Where to begin (default: at random)");
  app.add_option("--jobs", jobs, "Threads")->check(CLI::PositiveNumber);
  app.add_option("--seed", seed, "Only this one");
  app.add_flag("--threads", threads, "Simulations of several threads, on a schedule");
  app.add_option("--script", script, "Only the one in this file")->check(CLI::ExistingFile);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (!script.empty()) {
    std::ifstream file(script);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const auto simulation = nori::testing::simulation_of(text);
    if (!simulation) {
      fmt::print(stderr, "{}: {}\n", script, simulation.error().message);
      return 2;
    }
    return run_one(*simulation);
  }
  if (!seed) {
    const auto found =
        hunt(threads ? simulate_some_threads : simulate_one_thread, seconds, first_seed, jobs);
    if (!found) {
      return 0;
    }
    if (!threads) {
      return report(nori::testing::random_simulation(found->seed), found->wrong);
    }
    seed = found->seed;
  }
  return threads ? run_one_with_threads(*seed) : run_one(nori::testing::random_simulation(*seed));
}
