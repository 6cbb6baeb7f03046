// The first bytes of a segment's file; zeros follow up to first_offset.
//
//   offset  size  field
//        0     8  magic            "noriwal\n"
//        8     4  version          1; it stands for everything in the file
//       12     4  generation       0; how often its records were compacted
//       16    16  log_id           random, drawn when the log was created
//       32     8  first_segment    the ids this file covers: one, unless compacted
//       40     8  last_segment
//       48     8  first_sequence   of the first record that can be in it
//       56     8  epoch            of the frame before the first one; 0 in a new log
//       64     8  durable_mark     when the file was made; everything before it was durable
//       72     8  created_ms       since 1970
//       80     8  first_offset     of the first frame; 1 MiB at most
//       88     8  ring_base        where the ring has this file's byte 0 (format/ring_header.h); 0
//                                  in a compacted file, which the ring has not
//       96    28  zeros
//      124     4  crc32c           of the 124 bytes before it, seeded with the segment's place
//
// first_segment, first_sequence and ring_base are below 2^63 (kCountMax). A header is valid if
// they are and its checksum matches, seeded with the log id and first_segment it holds itself: a
// valid header under another segment's name is evidence of its mark and nothing more. The checksum
// stands at the same place in every version, so that a newer version is told from damage.

#pragma once

#include <cstdint>
#include <expected>

#include "base/bytes.h"
#include "format/log_id.h"
#include "nori/error.h"
#include "nori/position.h"

namespace nori {

inline constexpr std::size_t kSegmentHeaderBytes = 128;
inline constexpr std::uint32_t kFormatVersion = 1;
inline constexpr std::uint64_t kFirstOffsetMax = 1024 * 1024;

/// Whether a segment's first frame may stand there: behind the header, within the largest block.
[[nodiscard]] constexpr bool is_first_offset(std::uint64_t offset) noexcept {
  return offset >= kSegmentHeaderBytes && offset <= kFirstOffsetMax;
}

struct SegmentHeader {
  std::uint32_t generation = 0;
  LogId log_id;
  std::uint64_t first_segment = 0;
  std::uint64_t last_segment = 0;
  Sequence first_sequence = 0;
  std::uint64_t epoch = 0;
  Sequence durable_mark = 0;
  std::uint64_t created_ms = 0;
  std::uint64_t first_offset = 0;
  std::uint64_t ring_base = 0;

  /// Compaction made it of first_segment to last_segment.
  [[nodiscard]] bool is_compacted() const noexcept { return generation != 0; }

  /// What frames of this segment are bound to.
  [[nodiscard]] std::uint32_t seed() const noexcept {
    return segment_seed(log_id, generation, first_segment);
  }
};

/// Writes kSegmentHeaderBytes.
void encode_segment_header(const SegmentHeader& header, std::byte* to) noexcept;

/// Why bytes are no header.
enum class HeaderFault : std::uint8_t {
  too_short,
  blank,  ///< All zeros.
  bad,
  unsupported_version,
};

struct HeaderError {
  HeaderFault fault = HeaderFault::bad;
  std::uint32_t version = 0;  ///< For unsupported_version.
};

/// Reads a header from the front of `bytes`.
[[nodiscard]] std::expected<SegmentHeader, HeaderError> decode_segment_header(
    ByteView bytes) noexcept;

}  // namespace nori
