// A crash at every operation of a piece of work.

#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "testing/is_sanitized.h"
#include "testing/reference_model.h"
#include "testing/simulated_disk.h"

namespace nori::testing {

/// Under a sanitizer, which takes ten times as long, one in so many crash points is tried; else
/// each.
inline constexpr std::uint64_t kCrashPointStride = kIsSanitized ? 7 : 1;

/// How a machine dies.
struct CrashForm {
  std::string_view name;
  Crash crash = Crash::power;
  PowerCutOptions options = {};
};

/// The process alone; and the power, at its luckiest, at its worst, and four times by chance.
inline constexpr CrashForm kProcessCrash{.name = "process", .crash = Crash::process};
inline constexpr CrashForm kPowerKeepsNothing{.name = "power, keeps nothing",
                                              .options = {.survival = Survival::nothing}};
inline constexpr CrashForm kCrashForms[] = {
    kProcessCrash,
    kPowerKeepsNothing,
    {.name = "power, keeps everything", .options = {.survival = Survival::everything}},
    {.name = "power, sectors", .options = {}},
    {.name = "power, torn sectors", .options = {.torn_sectors = true}},
    {.name = "power, split pages", .options = {.split_mapped_pages = true}},
    {.name = "power, torn and split",
     .options = {.torn_sectors = true, .split_mapped_pages = true}},
};

/// What a crash of that form makes of `disk` as it is now; `disk` itself stays.
[[nodiscard]] inline std::unique_ptr<SimulatedDisk> crashed_copy(const SimulatedDisk& disk,
                                                                 const CrashForm& form,
                                                                 std::uint64_t seed) {
  auto copy = disk.clone();
  if (form.crash == Crash::power) {
    copy->power_cut(seed, form.options);
  }
  return copy;
}

/// Does `work` on copies of `start`, each of which dies at another operation: the first, the
/// second, … (kCrashPointStride), and the last one lives. What `work(disk)` returns is handed to
/// `examine(disk, outcome, operations)` while the disk is still as it died; it ends before the disk
/// does.
template <std::invocable<SimulatedDisk&> Work, typename Examine>
void for_each_crash_point(const SimulatedDisk& start, Work work, Examine examine) {
  for (std::uint64_t operations = 0;; operations += kCrashPointStride) {
    const auto disk = start.clone();
    disk->crash_after(operations);
    const auto outcome = work(*disk);
    const bool died = disk->dead();
    examine(*disk, *outcome, operations);
    // So that nothing is tidied up that a dead process would leave.
    disk->crash_process();
    if (!died) {
      return;
    }
  }
}

}  // namespace nori::testing
