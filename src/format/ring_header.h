// The first two pages of the ring's file. The newest frames stand behind them, at kRingDataOffset:
// the byte at offset o of a segment stands at (ring_base + o) modulo ring_bytes. The ring_base is
// in the segment's header, and before that file is there in the rotation frame that leads to it, so
// that frames follow each other in the ring without a hole, also from one segment to the next.
//
//   offset  size  field
//        0     8  magic        "noriring"
//        8     4  version      1
//       12     4  zeros
//       16    16  log_id
//       32     8  ring_bytes   a power of two
//       40     4  crc32c       of the 40 bytes before it
//     4096    20  mark slot 0  the durable mark, on a page of its own because it changes
//     4160    20  mark slot 1  written in turn, so that one is always whole
//
// A mark slot:
//        0     8  durable_mark
//        8     8  segment_id   the segment that appends went to
//       16     4  crc32c       of the 16 bytes before it, seeded with the log id
//
// The header is valid if its checksum matches, which stands at the same place in every version. The
// mark is the higher one of the valid slots.

#pragma once

#include <cstdint>
#include <expected>
#include <optional>

#include "base/bytes.h"
#include "format/log_id.h"
#include "format/segment_header.h"
#include "nori/position.h"

namespace nori {

inline constexpr std::uint64_t kRingDataOffset = 8192;
inline constexpr std::size_t kRingHeaderBytes = 44;
inline constexpr std::size_t kRingMarkOffset = 4096;
inline constexpr std::size_t kRingMarkStride = 64;
inline constexpr std::size_t kRingMarkBytes = 20;

struct RingHeader {
  LogId log_id;
  std::uint64_t ring_bytes = 0;
};

struct RingMark {
  Sequence durable_mark = 0;
  std::uint64_t segment_id = 0;
};

/// Writes kRingHeaderBytes.
void encode_ring_header(const RingHeader& header, std::byte* to) noexcept;
[[nodiscard]] std::expected<RingHeader, HeaderError> decode_ring_header(ByteView bytes) noexcept;

/// Writes the slot `slot & 1` of a ring file's first kRingDataOffset bytes.
void encode_ring_mark(const RingMark& mark, const LogId& log_id, std::uint64_t slot,
                      ByteSpan ring) noexcept;
/// The higher valid mark in a ring file's first kRingDataOffset bytes.
[[nodiscard]] std::optional<RingMark> decode_ring_mark(ByteView ring, const LogId& log_id) noexcept;

}  // namespace nori
