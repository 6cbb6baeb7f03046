// Makes a scanned log whole: steps (b) to (d) of docs/recovery.md#order. Each can be repeated any
// number of times; a crash within leaves a log that scans to the same end.

#pragma once

#include "io/file_system.h"
#include "log/log_scan.h"
#include "nori/error.h"
#include "segment/segment_files.h"

namespace nori {

/// On return all that `scan` keeps is durable and ends at a block's end (scan.end, moved there by a
/// padding frame of the last kept epoch), what lies behind is in quarantine/ or was blank, and gone
/// from the log; and so is the ring.
///
/// Errors: `no_space`, `io`: nothing that counts was lost; do it again.
[[nodiscard]] Result<void> recover_log(io::Directory& directory, LogScan& scan,
                                       const WriteMode& mode);

}  // namespace nori
