// Writes a snapshot's file. It knows no log: that everything before its sequence is durable is the
// caller's to see to (log/snapshot_writer.cc).

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "format/snapshot_block.h"
#include "format/snapshot_header.h"
#include "format/snapshot_index.h"
#include "io/file_system.h"
#include "nori/error.h"
#include "nori/snapshot.h"

namespace nori {

/// SnapshotWriter's contract, below the log.
///
/// Threads: one at a time, and one for a directory. Lifetime: keeps the directory.
class SnapshotFileWriter {
 public:
  [[nodiscard]] static Result<std::unique_ptr<SnapshotFileWriter>> begin(
      io::Directory& log_directory, const SnapshotHeader& header, const SnapshotOptions& options);
  ~SnapshotFileWriter();
  SnapshotFileWriter(const SnapshotFileWriter&) = delete;
  SnapshotFileWriter& operator=(const SnapshotFileWriter&) = delete;

  [[nodiscard]] Result<void> add(const SnapshotEntry& entry);
  [[nodiscard]] Result<SnapshotWritten> finish();

 private:
  SnapshotFileWriter(std::unique_ptr<io::Directory> snapshots, const SnapshotHeader& header,
                     const SnapshotOptions& options);

  [[nodiscard]] Result<void> check_usable() const;
  [[nodiscard]] Result<void> check(const SnapshotEntry& entry) const;
  [[nodiscard]] Result<void> end_block();
  [[nodiscard]] Result<void> write_out();
  [[nodiscard]] Result<SnapshotFile> make_durable();
  /// Keeps what failed, and leaves nothing behind.
  void fail(const Error& error);
  void give_up() noexcept;

  /// Where the next byte of `pending_` goes.
  [[nodiscard]] std::uint64_t offset() const noexcept { return written_ + pending_.size(); }

  const std::unique_ptr<io::Directory> snapshots_;
  const SnapshotHeader header_;
  const SnapshotOptions options_;
  const std::uint32_t seed_;
  std::unique_ptr<io::File> file_;  ///< nullptr before begin() and once there is no temporary.
  std::optional<Error> failure_;

  SnapshotBlockBuilder block_;
  SnapshotIndexBuilder index_;
  SnapshotFooter footer_;
  std::string separator_;  ///< Of the block being built.
  std::string last_key_;
  std::string pending_;  ///< Encoded, not written yet.
  std::uint64_t written_ = 0;
  std::uint64_t synced_ = 0;
};

}  // namespace nori
