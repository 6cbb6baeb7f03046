// The snapshots of a log, as files of its subdirectory snapshots/:
//
//   00000000000000001234.snapshot   whole, and durable once its name is
//   next.tmp                        one being written, or what a crash left of it: void
//
// Below the log: who deletes segments, or judges a log that ends early, lists them here.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "format/log_id.h"
#include "format/snapshot_header.h"
#include "io/file_system.h"
#include "nori/error.h"
#include "nori/snapshot.h"

namespace nori {

inline constexpr std::string_view kSnapshotsName = "snapshots";
inline constexpr std::string_view kNextSnapshotName = "next.tmp";

[[nodiscard]] std::string snapshot_name(Sequence sequence);

/// The sequence, if `name` is the name of a snapshot: snapshot_name() of it.
[[nodiscard]] std::optional<Sequence> parse_snapshot_name(std::string_view name);

/// The subdirectory; nullptr if there is none. Creates nothing.
[[nodiscard]] Result<std::unique_ptr<io::Directory>> find_snapshots(io::Directory& log_directory);

/// The log's id, by the header of any of its segments; nothing if none has a valid one.
[[nodiscard]] Result<std::optional<LogId>> find_log_id(io::Directory& log_directory);

/// All snapshots, oldest first, the bad ones too, each judged by its header and footer. Creates
/// nothing. One that cannot be read is not valid, and says why; its name still gives its sequence.
///
/// A killed process leaves names that a power cut can take: settle_snapshots() comes before
/// anything is deleted on account of a snapshot.
[[nodiscard]] Result<std::vector<SnapshotFile>> list_snapshots(io::Directory& log_directory);

/// On return every name in snapshots/, and its own, is durable. Nothing happens where it is not.
[[nodiscard]] Result<void> settle_snapshots(io::Directory& log_directory);

/// The same list, of the subdirectory.
[[nodiscard]] Result<std::vector<SnapshotFile>> list_snapshot_files(io::Directory& snapshots);

/// What makes a listed file invalid because it is of another log.
void refuse_other_logs(std::vector<SnapshotFile>& files, const LogId& log_id);

/// Removes what lies before the newest `retain` valid snapshots of this log, oldest first, and adds
/// the names to `removed`. Durable on return. What is of another log, or of a newer version, is not
/// ours to remove.
[[nodiscard]] Result<void> remove_older_snapshots(io::Directory& snapshots, const LogId& log_id,
                                                  std::uint32_t retain,
                                                  std::vector<std::string>& removed);

/// A snapshot's file, header and footer checked.
struct OpenSnapshotFile {
  std::unique_ptr<io::File> file;
  SnapshotHeader header;
  SnapshotFooter footer;
  std::uint64_t bytes = 0;
};

/// Errors: `damaged`: not the snapshot of `sequence`, naming file and reason;
/// `unsupported_version`; `io` with ENOENT where there is none.
[[nodiscard]] Result<OpenSnapshotFile> open_snapshot_file(io::Directory& snapshots,
                                                          Sequence sequence);

/// What is known of it by then.
[[nodiscard]] SnapshotFile describe(const OpenSnapshotFile& open);

}  // namespace nori
