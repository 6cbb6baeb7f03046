// Lives of a log, drawn from a seed: each opens what the last crash left, does something, and dies
// somewhere. What every life finds is compared with a reference.

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nori/error.h"
#include "nori/options.h"
#include "testing/crash_points.h"
#include "testing/fault_plan.h"
#include "testing/random.h"
#include "testing/workload.h"

namespace nori::testing {

/// An opening of the log, and its end.
struct Life {
  FsyncPolicy::Kind fsync = FsyncPolicy::Kind::os;
  std::uint64_t ring_bytes = 64 * kKiB;
  std::uint64_t segment_bytes = 64 * kKiB;
  Verification verification = Verification::tail;
  /// So many operations succeed, then the disk dies. Without: it dies when the script has ended.
  std::optional<std::uint64_t> crash_after = {};
  std::optional<Fault> fault = {};
  /// What is done after opening, until a call answers an error.
  Script script = {};
  /// An index of kCrashForms.
  std::size_t crash_form = 0;
  std::uint64_t crash_seed = 1;
  /// A copy of what the crash left is damaged and read as well: what is read was appended.
  std::optional<std::uint64_t> damage_seed = {};
  /// What the clock does before the next life.
  std::int64_t clock_ms = 0;
};

/// A disk and the lives of the log on it.
struct Simulation {
  std::uint64_t seed = 1;
  std::uint64_t sector_bytes = 512;
  IoMode io = IoMode::direct;
  Padding padding = Padding::block;
  std::vector<Life> lives = {};
};

/// The simulation of a seed: the same for every run of this version.
[[nodiscard]] Simulation random_simulation(std::uint64_t seed);

/// Of a record as most are: none to a few blocks.
[[nodiscard]] std::uint64_t random_value_bytes(Random& random);
/// A failure of some call, soon.
[[nodiscard]] Fault random_fault(Random& random);

/// Lives them all. After each crash the log is read as it lies, and compared; after the last one it
/// is opened, continued and closed as well. Returns what is wrong, with the life it was found in,
/// or nothing; and in `trace` what the disk did.
[[nodiscard]] std::string simulate(const Simulation& simulation,
                                   std::vector<std::string>* trace = nullptr);

/// A simulation with as few lives, steps and records as can be found, in up to `attempts` tries,
/// for which `fails` is still true.
[[nodiscard]] Simulation shrink(Simulation simulation,
                                const std::function<bool(const Simulation&)>& fails,
                                std::uint64_t attempts = 2000);

/// As lines that people can read, change and keep as a test.
[[nodiscard]] std::string to_text(const Simulation& simulation);
/// Errors: `invalid_argument`, naming the line.
[[nodiscard]] Result<Simulation> simulation_of(std::string_view text);

}  // namespace nori::testing
