// A snapshot of an open log: never durable ahead of it.

#include <memory>
#include <optional>
#include <utility>

#include "base/make_error.h"
#include "base/try.h"
#include "log/log_access.h"
#include "nori/snapshot.h"
#include "nori/wal.h"
#include "snapshot/snapshot_file_writer.h"

namespace nori {
namespace {

// Of the record before `sequence`; 0 if it is not in the log any more.
Result<Epoch> epoch_before(const Wal& wal, Sequence sequence) {
  if (sequence == 0) {
    return Epoch{};
  }
  auto reader = wal.read_from(sequence - 1);
  if (!reader && reader.error().code == ErrorCode::gone) {
    return Epoch{};
  }
  auto found = NORI_TRY(std::move(reader));
  const auto entry = NORI_TRY(found.next());
  return entry && entry->sequence == sequence - 1 ? entry->epoch : Epoch{};
}

// A snapshot is worth nothing without what came behind it.
Result<void> check_not_gone(const Wal& wal, Sequence at) {
  const auto reader = wal.read_from(at);
  if (!reader && reader.error().code == ErrorCode::gone) {
    return make_error(ErrorCode::invalid_argument, "a snapshot of {}: {}", at,
                      reader.error().message);
  }
  return reader ? Result<void>{} : std::unexpected(reader.error());
}

// Gives the turn back.
class Turn {
 public:
  explicit Turn(std::shared_ptr<SnapshotTurn> turn) : turn_(std::move(turn)) {}
  ~Turn() { turn_->give_back(); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  const std::shared_ptr<SnapshotTurn> turn_;
};

}  // namespace

class SnapshotWriter::Impl {
 public:
  explicit Impl(std::shared_ptr<SnapshotTurn> turn) { turn_.emplace(std::move(turn)); }

  std::optional<Turn> turn_;  // given back last
  std::unique_ptr<SnapshotFileWriter> file_;
};

Result<SnapshotWriter> SnapshotWriter::begin(Wal& wal, const Position& at,
                                             SnapshotOptions options) {
  const auto log = NORI_TRY(LogAccess::to(wal));
  if (log.is_read_only) {
    return make_error(ErrorCode::invalid_argument, "{}: the log was opened read-only",
                      log.directory->path().string());
  }
  if (!log.deletion->take_snapshot_turn(at.sequence)) {
    return make_error(ErrorCode::busy, "{}: a snapshot is being written already",
                      log.directory->path().string());
  }
  auto impl = std::make_unique<Impl>(log.deletion->snapshot);
  NORI_TRY(wal.wait_durable(at));
  NORI_TRY(check_not_gone(wal, at.sequence));
  const auto epoch = NORI_TRY(epoch_before(wal, at.sequence));
  const SnapshotHeader header{.log_id = log.log_id,
                              .sequence = at.sequence,
                              .epoch = epoch.bits,
                              .created_ms = log.file_system->now_ms()};
  impl->file_ = NORI_TRY(SnapshotFileWriter::begin(*log.directory, header, options));
  return SnapshotWriter(std::move(impl));
}

SnapshotWriter::SnapshotWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SnapshotWriter::SnapshotWriter(SnapshotWriter&&) noexcept = default;
SnapshotWriter& SnapshotWriter::operator=(SnapshotWriter&&) noexcept = default;
SnapshotWriter::~SnapshotWriter() = default;

Result<void> SnapshotWriter::add(const SnapshotEntry& entry) { return impl_->file_->add(entry); }

Result<SnapshotWritten> SnapshotWriter::finish() {
  auto written = impl_->file_->finish();
  impl_->turn_.reset();  // whatever came of it, there is nothing left to write
  return written;
}

}  // namespace nori
