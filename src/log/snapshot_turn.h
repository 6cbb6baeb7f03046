// The snapshot of a log that is being written.

#pragma once

#include <atomic>
#include <limits>

#include "nori/position.h"

namespace nori {

/// Whose turn it is to write one: one at a time. Until it has its name nobody finds it, but what
/// lies behind its place is needed already.
///
/// Threads: any.
class SnapshotTurn {
 public:
  /// False if another one is being written.
  [[nodiscard]] bool take(Sequence at) noexcept {
    auto nowhere = kNowhere;
    return at_.compare_exchange_strong(nowhere, at);
  }
  void give_back() noexcept { at_.store(kNowhere); }

  [[nodiscard]] bool is_taken() const noexcept { return at_.load() != kNowhere; }
  /// It needs the records from here on; none without it.
  [[nodiscard]] Sequence at() const noexcept { return at_.load(); }

 private:
  static constexpr Sequence kNowhere = std::numeric_limits<Sequence>::max();

  std::atomic<Sequence> at_{kNowhere};
};

}  // namespace nori
