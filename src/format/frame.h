// A frame is the unit of atomicity on disk: what was appended in one call, found by its header.
//
//   offset  size  field
//        0     4  header_crc32c    of the 38 bytes behind it, seeded with the frame's place
//        4     4  payload_crc32c   of the payload, exclusive-or the place's seed rotated by 16
//        8     4  payload_bytes
//       12     4  kind             in the upper 4 bits; record_count in the lower 28 (of a
//                                  compacted frame: sequences, whether or not a record is left)
//       16     8  first_sequence   of the first record; without records, of the next one
//       24     8  epoch            number in the upper 24 bits, 40 random bits below
//       32     6  time_ms          since 1970; never lower than in the frame before
//       38     4  mark_distance    first_sequence - durable mark when the frame was placed;
//                                  2^32 - 1 if it is that or more: then no mark is stated (0)
//       42        payload
//
// The place is log id, generation, segment and offset (format/log_id.h): what was written for
// another place is not valid here. The header is valid if its checksum matches, its kind is
// defined, it has records if and only if its kind says so, first_sequence is below 2^63 and the
// mark is not below 0; checked alone it is evidence of its mark. The frame is valid if the
// payload's checksum matches too. Whether it belongs here is the chain's to say: FrameChain. A
// worked example: docs/format.md#frame.

#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <optional>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/little_endian.h"
#include "format/log_id.h"
#include "nori/position.h"

namespace nori {

enum class FrameKind : std::uint8_t {
  records = 1,
  padding = 2,   ///< Zeros up to a block's end, so that a durable byte is never written again.
  opening = 3,   ///< Begins an epoch: OpeningPayload.
  rotation = 4,  ///< The segment's last frame: RotationPayload.
  close = 5,     ///< The log was closed here: a SegmentSummary; fills the file's last block.
  gap = 6,       ///< Reserved for repair.
  /// What compaction left of the records of a range (format/compacted_frame.h).
  compacted = 7,
};

inline constexpr std::size_t kFrameHeaderBytes = 42;
inline constexpr std::uint64_t kPayloadBytesMax = 0xffff'ffffU;
inline constexpr std::uint64_t kFrameTimeMsMax = (std::uint64_t{1} << 48) - 1;
inline constexpr std::uint64_t kRecordsPerFrameMax = (std::uint64_t{1} << 28) - 1;

struct FrameHeader {
  FrameKind kind = FrameKind::records;
  std::uint32_t record_count = 0;  ///< Sequences covered, where the kind is `compacted`.
  std::uint64_t payload_bytes = 0;
  std::uint32_t payload_crc32c = 0;  ///< As computed over the payload alone.
  Sequence first_sequence = 0;
  std::uint64_t epoch = 0;
  std::uint64_t time_ms = 0;
  Sequence durable_mark = 0;

  [[nodiscard]] std::uint64_t frame_bytes() const noexcept {
    return kFrameHeaderBytes + payload_bytes;
  }
  [[nodiscard]] Sequence end_sequence() const noexcept { return first_sequence + record_count; }
};

/// Writes kFrameHeaderBytes. `seed` is place_seed() of where the frame will stand.
void encode_frame_header(const FrameHeader& header, std::uint32_t seed, std::byte* to) noexcept;

/// The header at the front of `bytes`, if it is valid at the place with this seed.
[[nodiscard]] std::optional<FrameHeader> decode_frame_header(ByteView bytes,
                                                             std::uint32_t seed) noexcept;
/// The same into `header`, which keeps what it holds where there is none.
[[nodiscard]] bool decode_frame_header(ByteView bytes, std::uint32_t seed,
                                       FrameHeader& header) noexcept;

/// Whether `payload` is what the header's checksum was computed over.
[[nodiscard]] bool payload_matches(const FrameHeader& header, ByteView payload) noexcept;

/// Whether bytes could be a frame header, judged by the fields alone: cheap, for searches.
[[nodiscard]] bool may_be_frame_header(const std::byte* bytes) noexcept;

/// What an opening frame says: the epoch of the frame before it, so that an opening bound to
/// another predecessor is no continuation.
///
///   0   8  previous_epoch
struct OpeningPayload {
  std::uint64_t previous_epoch = 0;
};
inline constexpr std::size_t kOpeningPayloadBytes = 8;

/// What a rotation frame says: where the log goes on.
///
///   0   8  next_segment_id
///   8   8  next_offset      of the next segment's first frame: its header's first_offset
///  16   8  next_ring_base   what the next segment's header will hold
struct RotationPayload {
  std::uint64_t next_segment_id = 0;
  std::uint64_t next_offset = 0;
  std::uint64_t next_ring_base = 0;
};
inline constexpr std::size_t kRotationPayloadBytes = 24;

// Both stand at the front of their payload; the rest of it is zeros up to a block's end.
void encode_opening(const OpeningPayload& opening, std::byte* to) noexcept;
[[nodiscard]] std::optional<OpeningPayload> decode_opening(ByteView payload) noexcept;
void encode_rotation(const RotationPayload& rotation, std::byte* to) noexcept;
[[nodiscard]] std::optional<RotationPayload> decode_rotation(ByteView payload) noexcept;

/// What the next frame must continue. (design: frames whose epoch is not exactly their
/// predecessor's are ghosts)
struct FrameChain {
  Sequence next_sequence = 0;
  std::uint64_t epoch = 0;  ///< 0 before the first opening.
  std::uint64_t time_ms = 0;

  /// Whether a valid frame is this chain's next one.
  [[nodiscard]] bool continued_by(const FrameHeader& header, ByteView payload) const noexcept;
  /// As far as the header alone can tell: the payload of an opening is not looked at.
  [[nodiscard]] bool may_be_continued_by(const FrameHeader& header) const noexcept;
  /// The same, in a compacted file: there the opening frames are gone, and any frame may be the
  /// first of a later epoch.
  [[nodiscard]] bool may_be_continued_in_compacted(const FrameHeader& header) const noexcept;
  void advance(const FrameHeader& header) noexcept;
};

// --- inline: once per record appended or read
// -----------------------------------------------------

namespace detail {

inline constexpr std::uint32_t kRecordCountMask = 0x0fff'ffffU;
inline constexpr std::uint64_t kMarkDistanceMax = 0xffff'ffffU;

inline bool kind_is_defined(std::uint32_t kind_and_count) noexcept {
  const auto kind = kind_and_count >> 28;
  const auto count = kind_and_count & kRecordCountMask;
  return kind >= 1 && kind <= 7 && ((kind == 1 || kind == 7) == (count != 0));
}

}  // namespace detail

// In words, so that the checksum is computed from registers.
inline void encode_frame_header(const FrameHeader& header, std::uint32_t seed,
                                std::byte* to) noexcept {
  const auto distance =
      std::min(header.first_sequence - std::min(header.durable_mark, header.first_sequence),
               detail::kMarkDistanceMax);
  const auto kind_and_count = static_cast<std::uint32_t>(header.kind) << 28 | header.record_count;
  const std::uint64_t first =
      header.payload_bytes << 32 | (header.payload_crc32c ^ std::rotl(seed, 16));
  const std::uint64_t second = header.first_sequence << 32 | kind_and_count;
  const std::uint64_t third = header.epoch << 32 | header.first_sequence >> 32;
  const std::uint64_t fourth = header.time_ms << 32 | header.epoch >> 32;
  const std::uint64_t rest = distance << 16 | (header.time_ms >> 32 & 0xffff);
  store_le(to, crc32c_of_words(seed, first, second, third, fourth, rest));
  store_le(to + 4, first);
  store_le(to + 12, second);
  store_le(to + 20, third);
  store_le(to + 28, fourth);
  store_le48(to + 36, rest);
}

inline bool may_be_frame_header(const std::byte* bytes) noexcept {
  const auto kind_and_count = load_le<std::uint32_t>(bytes + 12);
  if (!detail::kind_is_defined(kind_and_count)) {
    return false;
  }
  const auto first_sequence = load_le<std::uint64_t>(bytes + 16);
  const auto distance = load_le<std::uint32_t>(bytes + 38);
  return distance <= first_sequence && first_sequence <= kCountMax;
}

inline bool decode_frame_header(ByteView bytes, std::uint32_t seed, FrameHeader& header) noexcept {
  const std::byte* const from = bytes.data();
  if (bytes.size() < kFrameHeaderBytes || !may_be_frame_header(from) ||
      load_le<std::uint32_t>(from) !=
          crc32c_of_words(seed, load_le<std::uint64_t>(from + 4), load_le<std::uint64_t>(from + 12),
                          load_le<std::uint64_t>(from + 20), load_le<std::uint64_t>(from + 28),
                          load_le48(from + 36))) {
    return false;
  }
  header.payload_crc32c = load_le<std::uint32_t>(from + 4) ^ std::rotl(seed, 16);
  header.payload_bytes = load_le<std::uint32_t>(from + 8);
  const auto kind_and_count = load_le<std::uint32_t>(from + 12);
  header.kind = static_cast<FrameKind>(kind_and_count >> 28);
  header.record_count = kind_and_count & detail::kRecordCountMask;
  header.first_sequence = load_le<std::uint64_t>(from + 16);
  header.epoch = load_le<std::uint64_t>(from + 24);
  header.time_ms = load_le48(from + 32);
  const auto distance = std::uint64_t{load_le<std::uint32_t>(from + 38)};
  header.durable_mark = distance == detail::kMarkDistanceMax ? 0 : header.first_sequence - distance;
  return true;
}

inline std::optional<FrameHeader> decode_frame_header(ByteView bytes, std::uint32_t seed) noexcept {
  std::optional<FrameHeader> header(std::in_place);
  if (!decode_frame_header(bytes, seed, *header)) {
    header.reset();
  }
  return header;
}

inline void FrameChain::advance(const FrameHeader& header) noexcept {
  next_sequence = header.end_sequence();
  epoch = header.epoch;
  time_ms = std::max(time_ms, header.time_ms);
}

inline bool payload_matches(const FrameHeader& header, ByteView payload) noexcept {
  return payload.size() == header.payload_bytes && crc32c(0, payload) == header.payload_crc32c;
}

}  // namespace nori
