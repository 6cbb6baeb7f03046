// Writing to a store that is not in memory.

#pragma once

#include <utility>

#include "nori/consumer.h"
#include "nori/wal.h"

namespace nori {

/// The log of a store, opened to put and remove keys without loading the store: the time it takes
/// does not grow with what the store holds.
///
/// What is appended here is in the store, as if Store had written it: a store is what its log says,
/// and nothing else. The log gives a record its place among all others, and with epoch and sequence
/// its version. Only one process writes to a log, so no store that is loaded misses it; one that is
/// open read-only shows the moment at which it was opened anyway. As Store does, it refuses a log
/// that begins behind the newest snapshot (that header and footer say is whole), and holds the log
/// back at the oldest one by the store's cursor, which is made where there is none.
/// What it cannot: compare versions, limit memory, make checkpoints. The next Store that opens
/// does.
///
/// Threads: one at a time.
class StoreAppender {
 public:
  /// Errors: as Store::open's. Damage that only reading all of it shows is not found.
  [[nodiscard]] static Result<StoreAppender> open(const WalOptions& options);

  [[nodiscard]] Wal& log() noexcept { return wal_; }
  /// What opening the log found.
  [[nodiscard]] const RecoveryInfo& recovery() const noexcept { return recovery_; }

  /// On return everything is durable. Errors: as Wal::close's; the log is released all the same.
  [[nodiscard]] Result<void> close();

 private:
  StoreAppender(Wal wal, RecoveryInfo recovery, Consumer cursor)
      : wal_(std::move(wal)), recovery_(std::move(recovery)), cursor_(std::move(cursor)) {}

  Wal wal_;
  RecoveryInfo recovery_;
  Consumer cursor_;
};

}  // namespace nori
