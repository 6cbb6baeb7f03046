// Opening a log the way the reading commands do.

#pragma once

#include <filesystem>

#include "nori/wal.h"

namespace nori::cli {

/// Changes nothing on disk, whoever writes to it.
[[nodiscard]] Result<Opened> open_for_reading(const std::filesystem::path& directory);

/// For deletion: nothing is appended, so it makes no ring.
[[nodiscard]] Result<Opened> open_for_deletion(const std::filesystem::path& directory);

}  // namespace nori::cli
