// How a log writes its files: decided at open by trying.

#pragma once

#include <cstdint>
#include <string>

#include "io/file_system.h"
#include "nori/error.h"
#include "nori/options.h"
#include "segment/segment_files.h"

namespace nori {

struct IoChoice {
  WriteMode mode;
  std::string io_reason;
  /// 0: no ring.
  std::uint64_t ring_bytes = 0;
  std::string ring_reason;
};

/// What the options ask for, as far as the directory takes it. Leaves no file behind.
/// Errors: `invalid_argument` where direct I/O was demanded and is refused; `io`.
[[nodiscard]] Result<IoChoice> choose_io(io::Directory& directory, const WalOptions& options);

}  // namespace nori
