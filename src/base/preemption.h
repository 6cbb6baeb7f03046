// Places where a test may hold a thread up, to show that no interleaving there breaks a promise.
// Unset, a point costs one relaxed load (not measurable beside an append).

#pragma once

#include <atomic>
#include <string_view>

namespace nori {

using PreemptionHook = void (*)(std::string_view point);
inline std::atomic<PreemptionHook> preemption_hook{nullptr};

inline void preemption_point(std::string_view point) {
  if (const auto hook = preemption_hook.load(std::memory_order_relaxed); hook != nullptr)
      [[unlikely]] {
    hook(point);
  }
}

}  // namespace nori
