// What the library's own parts need of an open log beyond what it offers everybody.

#pragma once

#include <memory>

#include "format/log_id.h"
#include "io/file_system.h"
#include "log/segment_deletion.h"
#include "nori/error.h"
#include "nori/wal.h"

namespace nori {

struct LogAccess {
  std::shared_ptr<io::Directory> directory;
  io::FileSystem* file_system = nullptr;
  LogId log_id;
  bool is_read_only = false;
  /// As long as the log.
  SegmentDeletion* deletion = nullptr;

  /// Errors: `closed`.
  [[nodiscard]] static Result<LogAccess> to(const Wal& wal);
};

}  // namespace nori
