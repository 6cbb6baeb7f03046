#include "store/checkpointer.h"

#include <string>
#include <utility>
#include <vector>

#include "base/make_error.h"
#include "base/try.h"
#include "log/log_access.h"
#include "nori/snapshot.h"
#include "snapshot/snapshot_files.h"
#include "store/contents.h"
#include "store/store_cursor.h"

namespace nori {

Result<std::unique_ptr<Checkpointer>> Checkpointer::open(Wal& wal, const StoreOptions& options) {
  auto cursor = NORI_TRY(take_store_cursor(wal));  // before there is something to leak
  return std::unique_ptr<Checkpointer>(new Checkpointer(wal, options, std::move(cursor)));
}

Result<CheckpointReport> Checkpointer::write(const StoreView::Impl& view, std::int64_t expired_ms,
                                             const Request& request,
                                             std::vector<const Item*>& expired) {
  SnapshotWritten written;
  auto there = request.keep == Keep::only_this ? NORI_TRY(read_whole(view.sequence)) : std::nullopt;
  if (there) {
    written.file = *std::move(there);  // the only one, perhaps: not to be replaced
  } else {
    written = NORI_TRY(write_snapshot(view, expired_ms, request.keep, expired));
    if (request.keep == Keep::only_this) {
      NORI_TRY(check_written(written.file));
    }
  }
  CheckpointReport report{.sequence = written.file.sequence,
                          .entries = written.file.entries,
                          .bytes = written.file.bytes,
                          .snapshots_removed = written.removed.size(),
                          .segments_deleted = 0,
                          .not_removed = written.not_removed};
  if (const auto cleaned = clean_up(request, report); !cleaned) {
    report.not_removed = cleaned.error();
  }
  return report;
}

Result<SnapshotWritten> Checkpointer::write_snapshot(const StoreView::Impl& view,
                                                     std::int64_t expired_ms, Keep keep,
                                                     std::vector<const Item*>& expired) {
  auto snapshots = options_.snapshots;
  if (keep == Keep::only_this) {
    snapshots.retain = UINT32_MAX;  // until this one has been read back
  }
  auto writer =
      NORI_TRY(SnapshotWriter::begin(wal_, Position{.sequence = view.sequence}, snapshots));
  IndexCursor cursor(view.index);
  for (cursor.seek_first(); cursor.item() != nullptr; cursor.next()) {
    const auto& item = *cursor.item();
    if (item.has_expired(expired_ms)) {
      expired.push_back(&item);
      continue;
    }
    const auto version = view.lives->version_of(item);
    NORI_TRY(writer.add({.key = item.key(),
                         .value = item.value(),
                         .epoch = version.epoch,
                         .sequence = version.sequence,
                         .expires_at = expiry_of(item)}));
  }
  return writer.finish();
}

// The snapshot of this sequence, if there is one and every byte of it is right.
Result<std::optional<SnapshotFile>> Checkpointer::read_whole(Sequence sequence) {
  const auto opened = NORI_TRY(SnapshotReader::open(
      options_.wal.directory,
      {.at = sequence, .verify = true, .file_system = options_.wal.file_system}));
  return opened.reader ? std::optional(opened.reader->file()) : std::nullopt;
}

Result<void> Checkpointer::check_written(const SnapshotFile& file) {
  const auto found = NORI_TRY(read_whole(file.sequence));
  if (found && found->entries == file.entries) {
    return {};
  }
  const auto log = NORI_TRY(LogAccess::to(wal_));
  const auto snapshots = NORI_TRY(find_snapshots(*log.directory));
  NORI_TRY(snapshots->remove(file.name));
  NORI_TRY(snapshots->sync());
  return make_error(ErrorCode::damaged, "{}: what was written does not read back; it was removed",
                    (snapshots->path() / file.name).string());
}

Result<void> Checkpointer::clean_up(const Request& request, CheckpointReport& report) {
  if (request.keep == Keep::only_this) {
    const auto log = NORI_TRY(LogAccess::to(wal_));
    const auto snapshots = NORI_TRY(find_snapshots(*log.directory));
    std::vector<std::string> removed;
    const auto done = remove_older_snapshots(*snapshots, log.log_id, 1, removed);
    report.snapshots_removed += removed.size();
    NORI_TRY(std::move(done));
  }
  const auto oldest = Position{.sequence = NORI_TRY(oldest_snapshot(wal_)).value_or(0)};
  NORI_TRY(cursor_.commit(oldest));
  NORI_TRY(cursor_.flush());
  if (request.delete_segments) {
    report.segments_deleted = NORI_TRY(wal_.delete_segments_before(oldest));
  }
  return {};
}

Result<void> Checkpointer::close() { return cursor_.close(); }

}  // namespace nori
