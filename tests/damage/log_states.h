// Logs in every state that a crash, a disk or somebody's hand may leave.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "testing/simulated_disk.h"
#include "tests/damage/small_log.h"

namespace nori::damage_tests {

/// How a small log was left, and what was done to it then.
struct LogState {
  std::string name;
  Ending ending = Ending::closed;
  std::function<void(testing::SimulatedDisk&)> alter = [](testing::SimulatedDisk&) {};

  [[nodiscard]] std::unique_ptr<testing::SimulatedDisk> make() const;
  friend void PrintTo(const LogState& state, std::ostream* to) { *to << state.name; }
};

[[nodiscard]] const std::vector<LogState>& log_states();

/// Those beside which places stand: a consumer's, a snapshot's; one has a compacted file, too.
[[nodiscard]] const std::vector<LogState>& states_with_places();

/// Those with more to read: rings that do not simply continue the log, and frames that no reader
/// has in memory all at once. Each call to them costs milliseconds.
[[nodiscard]] const std::vector<LogState>& more_log_states();

/// Killed processes' logs, of which recovery writes more than one write's bytes again: a header, a
/// payload, padding's header and its zeros lie on both sides of where a write ends.
[[nodiscard]] const std::vector<LogState>& states_to_write_again();

}  // namespace nori::damage_tests
