// A consumer's place, in a file of its own: cursors/NAME.cursor. Replaced as a whole, never written
// to.
//
//   offset  size  field
//        0     8  magic          "noricurs"
//        8     4  version        1
//       12     4  zeros
//       16    16  log_id         of the log that the place is in
//       32     8  segment_id     where to look first
//       40     8  offset         likewise
//       48     8  sequence       everything before it is done; it was durable
//       56     8  created_ms     since 1970
//       64     8  committed_ms   when it was moved last
//       72     8  lag_bytes_max  what it may hold back before it is dropped; 0: any amount
//       80     4  crc32c         of the 80 bytes before it
//
// A cursor is valid if it is exactly these 84 bytes, its checksum matches, and segment_id and
// sequence are below 2^63 (kCountMax). The checksum stands at the same place in every version.

#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>

#include "base/bytes.h"
#include "format/log_id.h"
#include "format/segment_header.h"
#include "nori/position.h"

namespace nori {

inline constexpr std::size_t kCursorBytes = 84;

struct CursorValue {
  LogId log_id;
  Position position;
  std::uint64_t created_ms = 0;
  std::uint64_t committed_ms = 0;
  std::uint64_t lag_bytes_max = 0;
};

/// Writes kCursorBytes.
void encode_cursor(const CursorValue& value, std::byte* to) noexcept;

/// The cursor that a file with these bytes holds.
[[nodiscard]] std::expected<CursorValue, HeaderError> decode_cursor(ByteView file) noexcept;

}  // namespace nori
