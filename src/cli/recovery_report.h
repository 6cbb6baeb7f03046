// What opening a log for writing cut off it: nothing goes silently.

#pragma once

#include <filesystem>

#include "nori/wal.h"

namespace nori::cli {

/// Says on standard error what recovery cut, if anything.
void report_recovery(const std::filesystem::path& directory, const RecoveryInfo& recovery);

}  // namespace nori::cli
