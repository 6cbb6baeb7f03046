// A log that was filled and closed cleanly, to be read or opened.

#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "bench/files.h"
#include "bench/setting.h"

namespace nori::bench {

class ClosedLog {
 public:
  /// Records with 1 KiB values until there are `bytes` of keys and values.
  ClosedLog(const Setting& setting, std::string_view name, std::uint64_t bytes);

  [[nodiscard]] const std::filesystem::path& path() const { return scratch_.path(); }
  [[nodiscard]] std::uint64_t records() const { return records_; }
  /// Of its segments' files.
  [[nodiscard]] std::uint64_t bytes_on_disk() const { return bytes_on_disk_; }

  /// Into the page cache, or out of it.
  void warm() const;
  void cool() const;

 private:
  Scratch scratch_;
  std::uint64_t records_ = 0;
  std::uint64_t bytes_on_disk_ = 0;
};

/// Reads the segments' files in chunks of 256 KiB and checksums them: as fast as one thread could
/// possibly scan. Returns a checksum, so that nothing is left out, and counts the bytes.
[[nodiscard]] std::uint32_t read_and_checksum(const ClosedLog& log, std::uint64_t& bytes_read);

}  // namespace nori::bench
