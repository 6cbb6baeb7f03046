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

}  // namespace nori::damage_tests
