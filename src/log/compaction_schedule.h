// When to compact in the background.

#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>

#include "nori/compaction.h"
#include "nori/options.h"
#include "nori/position.h"

namespace nori {

/// Whether it is worth while to read sealed segments in search of garbage. What was live when last
/// looked may be taken for live: so the next look is due when so much more is sealed that the rest
/// could be the ratio asked for, and a quarter of what there was at least. All looks together then
/// read no more than a few times what is written.
///
/// Threads: one at a time.
class CompactionSchedule {
 public:
  using Clock = std::chrono::steady_clock;

  CompactionSchedule(const CompactionPolicy& policy, std::uint64_t segment_bytes)
      : policy_(policy), due_bytes_(2 * segment_bytes) {}

  struct Decision {
    bool is_due = false;
    std::optional<Clock::time_point> ask_again = std::nullopt;  ///< Nothing: when more is sealed.
  };
  [[nodiscard]] Decision decide(Clock::time_point now, Sequence end, std::uint64_t sealed_bytes) {
    if (end != end_seen_) {
      end_seen_ = end;
      quiet_since_ = now;
    }
    if (sealed_bytes < due_bytes_) {
      return {};
    }
    if (const auto quiet_at = quiet_since_ + policy_.idle; now < quiet_at) {
      return {.ask_again = quiet_at};
    }
    return {.is_due = true};
  }

  void compacted(const CompactionReport& report) {
    const auto left = static_cast<double>(report.bytes_after);
    due_bytes_ = static_cast<std::uint64_t>(
        std::max(left * 1.25, left / std::max(0.01, 1 - policy_.garbage_ratio)));
  }

 private:
  const CompactionPolicy policy_;
  std::uint64_t due_bytes_;
  std::optional<Sequence> end_seen_;
  Clock::time_point quiet_since_{};  ///< Since `end_seen_` is the end.
};

}  // namespace nori
