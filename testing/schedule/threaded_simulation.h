// Lives of a log with several threads, on a schedule drawn from a seed: what simulation.h does with
// one thread. Only in programs that link nori_schedule.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nori::testing {

/// What became of a simulation.
struct ThreadedRun {
  std::string wrong;  ///< With the life it was found in; or nothing.
  std::uint64_t lives = 0;
  std::uint64_t points = 0;    ///< At which another thread could have gone on.
  std::uint64_t switches = 0;  ///< And at which one did.
  std::uint64_t digest = 0;    ///< Of the orders of the threads.
};

/// Up to six lives of a log on one disk, all drawn from the seed. In each, two to four threads
/// append, sync, wait, are called back, rotate, delete, read and follow, beside the log's own
/// threads; it dies at a scheduling point, at an operation of the disk, or when they are done. All
/// threads come to their ends, what is left is compared with what each was told before the crash,
/// and the next life goes on with that; after the last one it is opened, continued and closed.
///
/// The same for every run of this version: in `trace`, where asked for, who did what and when the
/// others went on, and what the disk did.
///
/// Where threads are stuck they and the disk stay for as long as the process.
[[nodiscard]] ThreadedRun simulate_threads(std::uint64_t seed,
                                           std::vector<std::string>* trace = nullptr);

}  // namespace nori::testing
