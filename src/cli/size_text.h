// Sizes in words.

#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <utility>

#include "nori/options.h"

namespace nori::cli {

/// "123 bytes", with a handier unit behind it where there is one.
[[nodiscard]] inline std::string bytes_text(std::uint64_t bytes) {
  std::string text = fmt::format("{} bytes", bytes);
  for (const auto& [unit, name] : {std::pair{kGiB, "GiB"}, {kMiB, "MiB"}, {kKiB, "KiB"}}) {
    if (bytes >= unit) {
      return text + fmt::format(" ({:.1f} {})",
                                static_cast<double>(bytes) / static_cast<double>(unit), name);
    }
  }
  return text;
}

}  // namespace nori::cli
