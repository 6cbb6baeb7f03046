#include "snapshot/snapshot_file_writer.h"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/make_error.h"
#include "base/try.h"
#include "snapshot/snapshot_files.h"

namespace nori {
namespace {

constexpr std::uint64_t kBlockBytesMin = kKiB;
constexpr std::uint64_t kBlockBytesMax = kMiB;
constexpr std::uint64_t kBytesPerWrite = kMiB;
// So that a large snapshot does not fill the page cache, and its last sync does not hold up the
// log's own for as long as all of it takes.
constexpr std::uint64_t kBytesPerSync = 32 * kMiB;

Result<void> check_options(const io::Directory& log_directory, const SnapshotOptions& options) {
  const auto refuse = [&](std::string_view what) {
    return make_error(ErrorCode::invalid_argument, "{}: a snapshot's {}",
                      log_directory.path().string(), what);
  };
  if (options.block_bytes < kBlockBytesMin || options.block_bytes > kBlockBytesMax) {
    return refuse("block_bytes has to be from 1 KiB to 1 MiB");
  }
  if (options.retain == 0) {
    return refuse("retain has to be 1 at least");
  }
  return {};
}

}  // namespace

SnapshotFileWriter::SnapshotFileWriter(std::unique_ptr<io::Directory> snapshots,
                                       const SnapshotHeader& header, const SnapshotOptions& options)
    : snapshots_(std::move(snapshots)), header_(header), options_(options), seed_(header.seed()) {
  pending_.resize(kSnapshotHeaderBytes);
  encode_snapshot_header(header, reinterpret_cast<std::byte*>(pending_.data()));
}

Result<std::unique_ptr<SnapshotFileWriter>> SnapshotFileWriter::begin(
    io::Directory& log_directory, const SnapshotHeader& header, const SnapshotOptions& options) {
  NORI_TRY(check_options(log_directory, options));
  NORI_TRY(log_directory.check_owner({std::string(kSnapshotsName)}));
  auto snapshots = NORI_TRY(log_directory.subdirectory(kSnapshotsName));
  NORI_TRY(snapshots->check_owner({std::string(kNextSnapshotName)}));
  // Also where it was there: who made it may have died before its name was durable.
  NORI_TRY(log_directory.sync());
  for (const auto& file : NORI_TRY(list_snapshot_files(*snapshots))) {
    if (file.valid && file.log_id == header.log_id.bytes && file.sequence > header.sequence) {
      return make_error(ErrorCode::invalid_argument,
                        "{}: there is a snapshot of a later sequence than {}: {}",
                        log_directory.path().string(), header.sequence, file.name);
    }
  }
  std::unique_ptr<SnapshotFileWriter> writer(
      new SnapshotFileWriter(std::move(snapshots), header, options));
  writer->file_ = NORI_TRY(writer->snapshots_->open(kNextSnapshotName, io::Access::write_buffered,
                                                    io::Creation::replace));
  return writer;
}

SnapshotFileWriter::~SnapshotFileWriter() { give_up(); }

void SnapshotFileWriter::give_up() noexcept {
  if (file_ != nullptr) {
    file_.reset();
    // Where that fails, the next begin() replaces it.
    static_cast<void>(snapshots_->remove(kNextSnapshotName));
  }
}

void SnapshotFileWriter::fail(const Error& error) {
  failure_ = error;
  give_up();
}

Result<void> SnapshotFileWriter::check_usable() const {
  if (failure_) {
    return std::unexpected(*failure_);
  }
  if (file_ == nullptr) {
    return make_error(ErrorCode::closed, "{}: this snapshot was finished",
                      (snapshots_->path() / snapshot_name(header_.sequence)).string());
  }
  return {};
}

Result<void> SnapshotFileWriter::check(const SnapshotEntry& entry) const {
  const auto refuse = [&](ErrorCode code, std::string_view what) {
    return make_error(code, "{}: {}",
                      (snapshots_->path() / snapshot_name(header_.sequence)).string(), what);
  };
  if ((footer_.entries != 0 || !block_.empty()) && entry.key <= last_key_) {
    return refuse(ErrorCode::invalid_argument, "its keys have to ascend, each once");
  }
  if (entry.sequence >= header_.sequence) {
    return refuse(ErrorCode::invalid_argument,
                  "holds what the records before it made, not later ones");
  }
  if (entry.value.size() > kSnapshotEntryBytesMax ||
      entry.key.size() > kSnapshotEntryBytesMax - entry.value.size()) {
    return refuse(ErrorCode::too_large, "a key and its value have to be below 4 GiB together");
  }
  return {};
}

Result<void> SnapshotFileWriter::add(const SnapshotEntry& entry) {
  NORI_TRY(check_usable());
  NORI_TRY(check(entry));
  if (!block_.empty() &&
      block_.plain_bytes() + entry.key.size() + entry.value.size() > options_.block_bytes) {
    if (const auto done = end_block(); !done) {
      fail(done.error());
      return done;
    }
  }
  if (block_.empty()) {
    separator_ = footer_.entries == 0 ? std::string_view{} : separator_of(last_key_, entry.key);
  }
  block_.add(entry);
  last_key_ = entry.key;
  return {};
}

Result<void> SnapshotFileWriter::end_block() {
  footer_.entries += block_.entries();
  footer_.plain_bytes += block_.plain_bytes();
  const auto begin = offset();
  block_.finish(options_.compression, seed_, begin, pending_);
  index_.add(offset() - begin, separator_);
  if (pending_.size() >= kBytesPerWrite) {
    return write_out();
  }
  return {};
}

Result<void> SnapshotFileWriter::write_out() {
  NORI_TRY(file_->write_at(written_, as_byte_view(pending_), {}, false));
  written_ += pending_.size();
  if (pending_.size() > 2 * kBytesPerWrite) {
    pending_ = {};  // gives back what one large entry took
  }
  pending_.clear();
  if (written_ - synced_ >= kBytesPerSync) {
    NORI_TRY(file_->sync());
    synced_ = written_;
  }
  return {};
}

Result<SnapshotFile> SnapshotFileWriter::make_durable() {
  if (!block_.empty()) {
    NORI_TRY(end_block());
  }
  footer_.blocks = index_.blocks();
  footer_.index_offset = offset();
  const auto index = std::move(index_).finish(seed_, footer_.index_offset);
  footer_.index_bytes = index.size();
  pending_ += index;
  pending_.resize(pending_.size() + kSnapshotFooterBytes);
  encode_snapshot_footer(
      footer_, seed_,
      reinterpret_cast<std::byte*>(pending_.data() + pending_.size() - kSnapshotFooterBytes));
  NORI_TRY(write_out());
  NORI_TRY(file_->sync());
  NORI_TRY(snapshots_->rename(kNextSnapshotName, snapshot_name(header_.sequence)));
  return describe(OpenSnapshotFile{
      .file = std::move(file_), .header = header_, .footer = footer_, .bytes = written_});
}

Result<SnapshotWritten> SnapshotFileWriter::finish() {
  NORI_TRY(check_usable());
  auto file = make_durable();
  if (!file) {
    fail(file.error());
    return std::unexpected(std::move(file).error());
  }
  if (const auto named = snapshots_->sync(); !named) {
    failure_ = named.error();
    return std::unexpected(named.error());
  }
  SnapshotWritten written;
  written.file = *std::move(file);
  if (const auto removed =
          remove_older_snapshots(*snapshots_, header_.log_id, options_.retain, written.removed);
      !removed) {
    written.not_removed = removed.error();
  }
  return written;
}

}  // namespace nori
