#include "store/store_cursor.h"

#include <algorithm>

#include "base/try.h"
#include "log/log_access.h"
#include "nori/snapshot.h"
#include "snapshot/snapshot_files.h"

namespace nori {

Result<std::optional<Sequence>> oldest_snapshot(const Wal& wal) {
  const auto log = NORI_TRY(LogAccess::to(wal));
  auto files = NORI_TRY(list_snapshots(*log.directory));
  refuse_other_logs(files, log.log_id);
  const auto oldest = std::ranges::find_if(files, &SnapshotFile::valid);
  return oldest == files.end() ? std::nullopt : std::optional(oldest->sequence);
}

Result<Consumer> take_store_cursor(Wal& wal) {
  const Sequence from = NORI_TRY(oldest_snapshot(wal)).value_or(0);
  auto cursor = NORI_TRY(wal.consumer(kStoreCursorName, {.from = from, .max_lag_bytes = 0}));
  // A crash may have come between the removal of a snapshot and this.
  NORI_TRY(cursor.commit(Position{.sequence = from}));
  NORI_TRY(cursor.flush());
  return cursor;
}

}  // namespace nori
