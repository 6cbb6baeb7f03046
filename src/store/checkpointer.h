// Writes snapshots of a store, and takes away what they make superfluous. Always in this order:
//
//   1. the snapshot, durable under its name           from here on opening begins with it
//   2. older snapshots, as many as are not kept
//   3. the cursor, to the oldest one kept             until here it held the log back
//   4. segments before that
//
// A crash between two of them leaves more than is needed, never less.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "nori/consumer.h"
#include "nori/store.h"
#include "store/view.h"

namespace nori {

/// Threads: one at a time.
class Checkpointer {
 public:
  /// On return the cursor stands at the oldest snapshot that is kept, or where the log begins.
  [[nodiscard]] static Result<std::unique_ptr<Checkpointer>> open(Wal& wal,
                                                                  const StoreOptions& options);

  enum class Keep : std::uint8_t {
    as_options_say,
    only_this,  ///< Once it has been read back.
  };
  struct Request {
    Keep keep = Keep::as_options_say;
    bool delete_segments = false;
  };
  /// Entries of `view` that have not expired at `expired_ms`; the others are added to `expired`,
  /// valid as long as the view.
  [[nodiscard]] Result<CheckpointReport> write(const StoreView::Impl& view, std::int64_t expired_ms,
                                               const Request& request,
                                               std::vector<const Item*>& expired);

  /// Gives the cursor back.
  [[nodiscard]] Result<void> close();

 private:
  Checkpointer(Wal& wal, const StoreOptions& options, Consumer cursor)
      : wal_(wal), options_(options), cursor_(std::move(cursor)) {}

  [[nodiscard]] Result<SnapshotWritten> write_snapshot(const StoreView::Impl& view,
                                                       std::int64_t expired_ms, Keep keep,
                                                       std::vector<const Item*>& expired);
  [[nodiscard]] Result<std::optional<SnapshotFile>> read_whole(Sequence sequence);
  [[nodiscard]] Result<void> check_written(const SnapshotFile& file);
  [[nodiscard]] Result<void> clean_up(const Request& request, CheckpointReport& report);

  Wal& wal_;
  const StoreOptions& options_;
  Consumer cursor_;
};

}  // namespace nori
