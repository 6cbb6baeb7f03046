#include "cli/open_log.h"

#include <utility>

namespace nori::cli {

Result<Opened> open_for_reading(const std::filesystem::path& directory) {
  WalOptions options;
  options.directory = directory;
  options.mode = OpenMode::read_only;
  return Wal::open(std::move(options));
}

Result<Opened> open_for_deletion(const std::filesystem::path& directory) {
  WalOptions options;
  options.directory = directory;
  options.mode = OpenMode::existing;
  options.ring_bytes = WalOptions::kNoRing;
  return Wal::open(std::move(options));
}

}  // namespace nori::cli
