// What the library's own parts need of an open log beyond what it offers everybody.

#pragma once

#include <atomic>
#include <memory>

#include "format/log_id.h"
#include "io/file_system.h"
#include "nori/error.h"
#include "nori/wal.h"

namespace nori {

struct LogAccess {
  std::shared_ptr<io::Directory> directory;
  io::FileSystem* file_system = nullptr;
  LogId log_id;
  bool is_read_only = false;
  /// Whoever sets it writes a snapshot, and clears it.
  std::shared_ptr<std::atomic<bool>> snapshot_is_written;

  /// Errors: `closed`.
  [[nodiscard]] static Result<LogAccess> to(const Wal& wal);
};

}  // namespace nori
