// Looks for a simulation that fails, on all cores, until its time is up.
//
//   crash_hunt [--seconds N] [--first-seed N] [--jobs N]   look for one; print it, made small
//   crash_hunt --seed N                                    that one alone, with all the disk did
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
#include <vector>

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

struct Found {
  std::uint64_t seed = 0;
  std::string wrong;
};

int hunt(double seconds, std::uint64_t first_seed, unsigned jobs) {
  const auto begin = Clock::now();
  const auto deadline =
      begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  std::atomic<std::uint64_t> next_seed = first_seed;
  std::atomic<std::uint64_t> lives = 0;
  std::mutex mutex;
  std::optional<Found> found;
  std::atomic<bool> stop = false;
  {
    std::vector<std::jthread> threads;
    for (unsigned job = 0; job < jobs; ++job) {
      threads.emplace_back([&] {
        while (!stop && Clock::now() < deadline) {
          const auto seed = next_seed.fetch_add(1);
          const auto simulation = nori::testing::random_simulation(seed);
          auto wrong = simulate(simulation);
          lives += simulation.lives.size();
          if (!wrong.empty()) {
            stop = true;
            const std::lock_guard lock(mutex);
            if (!found || seed < found->seed) {
              found = Found{.seed = seed, .wrong = std::move(wrong)};
            }
          }
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
    return report(nori::testing::random_simulation(found->seed), found->wrong);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  double seconds = 10;
  std::optional<std::uint64_t> seed;
  std::uint64_t first_seed = std::uint64_t{std::random_device{}()} << 16;
  std::string script;
  unsigned jobs = std::max(1U, std::thread::hardware_concurrency());
  CLI::App app("Looks for a crash that the log does not survive");
  app.add_option("--seconds", seconds, "How long to look");
  app.add_option("--first-seed", first_seed, "Where to begin (default: at random)");
  app.add_option("--jobs", jobs, "Threads")->check(CLI::PositiveNumber);
  app.add_option("--seed", seed, "Only this one");
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
  return seed ? run_one(nori::testing::random_simulation(*seed)) : hunt(seconds, first_seed, jobs);
}
