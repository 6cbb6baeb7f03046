// Logs to alter, written by the library on a simulated disk.

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fuzz/log_check.h"
#include "testing/simulated_disk.h"

namespace nori::fuzz {

/// The files of a log's directory, by name; not those of its subdirectories, nor the lock.
using Files = std::map<std::string, std::vector<std::byte>>;
[[nodiscard]] Files files_of(const testing::SimulatedDisk& disk);

/// A place in a file where something begins.
struct Landmark {
  std::string file;
  std::uint64_t offset = 0;
  /// Of a frame: what its checksums are bound to.
  bool is_frame = false;
  std::uint32_t place_seed = 0;
};

struct BaseLog {
  /// With what was not synced: a power cut may still come.
  std::unique_ptr<testing::SimulatedDisk> disk;
  Written written;
  Files files;
  /// What the files were before: an altered one may go back to that.
  std::vector<Files> earlier;
  /// Headers, footers, frames in segments and ring.
  std::vector<Landmark> landmarks;
};

/// Made when first asked for, and never changed.
[[nodiscard]] const std::vector<BaseLog>& base_logs();

}  // namespace nori::fuzz
