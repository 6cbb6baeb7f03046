// How large and how long: what the command line decides for all rows.

#pragma once

#include <cstdint>
#include <filesystem>

#include "nori/options.h"

namespace nori::bench {

struct Setting {
  /// Where everything is written; a folder on the disk to be measured.
  std::filesystem::path directory;
  /// How long a subject works in a round, where it works for a time.
  double seconds = 0.6;
  /// Of most rows. Rows that wait on the disk have twice as many: its mood changes.
  std::uint32_t rounds = 7;
  /// Of the log that is scanned and verified.
  std::uint64_t scan_bytes = 512 * kMiB;
  /// Of the log that is opened.
  std::uint64_t open_bytes = 4 * kGiB;
  std::uint64_t many_segments = 10'000;
  std::uint64_t many_logs = 1000;
  /// Of the store's rows; a multiple of 100.
  std::uint64_t store_keys = 1'000'000;
  /// Of the row that looks for pauses.
  double minute_seconds = 60;
  double minute_mb_per_s = 1000;

  [[nodiscard]] static Setting quick(const std::filesystem::path& directory) {
    return {.directory = directory,
            .seconds = 0.05,
            .rounds = 5,
            .scan_bytes = 64 * kMiB,
            .open_bytes = 256 * kMiB,
            .many_segments = 100,
            .many_logs = 50,
            .store_keys = 20'000,
            .minute_seconds = 1};
  }
};

}  // namespace nori::bench
