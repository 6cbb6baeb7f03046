#pragma once

#include <cstdint>

namespace nori {

/// How a record's value is stored. A value that does not shrink is stored plain whatever was asked
/// for; so is one larger than kCompressedValueBytesMax, so that a reader of hostile files never
/// needs more memory than that for one.
enum class Compression : std::uint8_t {
  none,
  lz4,   ///< Fast: about as fast as the disk.
  zstd,  ///< Smaller: several times slower. Level 1.
};

inline constexpr std::uint64_t kCompressedValueBytesMax = std::uint64_t{16} << 20;

}  // namespace nori
