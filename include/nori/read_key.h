#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "nori/error.h"
#include "nori/options.h"
#include "nori/record.h"
#include "nori/store.h"

namespace nori {

struct ReadKeyOptions {
  /// By which clock keys expire; nothing is the file system's.
  std::function<TimePoint()> clock = {};
  /// nullptr is the operating system's.
  io::FileSystem* file_system = nullptr;
};

/// What a store has of a key, with bytes of its own.
struct KeyRead {
  std::string value;
  Version version;
  std::optional<TimePoint> expires_at;
};

/// What the store in `directory` has of `key`, or nothing: as Store::get() of one that is opened
/// read-only, but without loading it. Changes nothing on disk; works beside a live writer.
///
/// Reads one block of the newest snapshot, and all of the log behind it: the time grows with what
/// was written since the last checkpoint. Of a snapshot that is bad elsewhere nothing is noticed; a
/// bad block falls back to the snapshot before.
/// Memory: the snapshot's index, a block and the value.
///
/// Errors: as Store::open, read-only.
[[nodiscard]] Result<std::optional<KeyRead>> read_key(const std::filesystem::path& directory,
                                                      std::string_view key,
                                                      const ReadKeyOptions& options = {});

}  // namespace nori
