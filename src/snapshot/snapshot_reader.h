// Opening the snapshots of a log whose directory is open.

#pragma once

#include <optional>

#include "format/log_id.h"
#include "io/file_system.h"
#include "nori/error.h"
#include "nori/snapshot.h"

namespace nori {

/// SnapshotReader::open(), of a directory at hand. A snapshot of another log than `log_id` is not
/// valid; without one, whose it is is not looked at.
[[nodiscard]] Result<OpenedSnapshot> open_snapshot(io::Directory& log_directory,
                                                   const std::optional<LogId>& log_id,
                                                   const SnapshotReadOptions& options);

}  // namespace nori
