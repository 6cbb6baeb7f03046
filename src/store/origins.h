// Where reading a store begins: the newest snapshot that serves, and the log behind it.

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nori/options.h"
#include "nori/snapshot.h"
#include "nori/wal.h"

namespace nori {

struct Origin {
  /// Nothing: none is valid, or there is none.
  std::optional<SnapshotReader> snapshot;
  /// Of its file; empty without one.
  std::string name;
  /// The log is read from here on: the snapshot holds what the records before this one made.
  Sequence from = 0;
};

/// Looks for an origin that can be read to its end.
///
///   Origins origins(wal, options);
///   for (;;) {
///     auto origin = origins.next();
///     ... read the snapshot and the log; all went well: done
///     origins.go_on_after(origin, what, error);  // another one, or the error to answer
///   }
///
/// Threads: one at a time. Lifetime: ends before `wal` and `options`.
class Origins {
 public:
  Origins(const Wal& wal, const WalOptions& options) : wal_(wal), options_(options) {}

  /// The newest that was not refused yet. Errors: as SnapshotReader::open.
  [[nodiscard]] Result<Origin> next();

  /// What `error` is about.
  enum class Part { snapshot, log };

  /// Nothing: next() has another one to try. Else the error to answer:
  ///
  ///   part      error    beside a writer             then
  ///   snapshot  damaged  either                      with the snapshot before
  ///   log       gone     yes: a checkpoint has come  from the newest on, some times
  ///                      between, perhaps
  ///   log       gone     no, or tried too often      `damaged`: it begins behind the snapshot
  ///   either    other    either                      as it is
  [[nodiscard]] Result<void> go_on_after(const Origin& origin, Part part, Error error);

  /// Those that were passed over, newest first.
  [[nodiscard]] std::vector<SkippedSnapshot> take_skipped() { return std::move(skipped_); }

 private:
  const Wal& wal_;
  const WalOptions& options_;
  std::vector<SkippedSnapshot> skipped_;
  int attempts_ = 1;
};

}  // namespace nori
