// Waiting for what other threads do.

#pragma once

#include <chrono>
#include <thread>

namespace nori::testing {

/// Whether it comes true before a test's patience ends: ten seconds.
template <typename Condition>
[[nodiscard]] bool comes_true(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) {
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace nori::testing
