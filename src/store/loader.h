// Opening a store: the newest snapshot that can be read, and the log behind it.

#pragma once

#include <cstdint>
#include <filesystem>

#include "nori/store.h"
#include "store/contents.h"

namespace nori {

struct LoadedStore {
  Contents contents;
  /// It holds what the records before this one made.
  Sequence end = 0;
  /// Of the newest record or snapshot read; 0 without one.
  std::int64_t newest_ms = 0;
  /// Of the records behind the snapshot, as StoreStats counts them.
  std::uint64_t bytes_behind = 0;
  /// Its `log` is the caller's.
  StoreRecovery recovery;
};

/// What a record counts for in StoreStats::log_bytes_behind.
[[nodiscard]] constexpr std::uint64_t log_bytes_of(std::uint64_t key_bytes,
                                                   std::uint64_t value_bytes) noexcept {
  constexpr std::uint64_t kHeadBytes = 4;
  return kHeadBytes + key_bytes + value_bytes;
}

/// Reads the store in the log's directory. A snapshot that turns out to be bad falls back to the
/// one before. Changes nothing.
///
/// Errors: `damaged`: also where the log begins behind what the newest valid snapshot holds. `io`.
[[nodiscard]] Result<LoadedStore> load_store(const Wal& wal, const WalOptions& options,
                                             unsigned threads);

}  // namespace nori
