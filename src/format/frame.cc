#include "format/frame.h"

#include <algorithm>
#include <bit>

#include "base/crc32c.h"
#include "base/little_endian.h"
#include "format/log_id.h"
#include "format/segment_header.h"

namespace nori {
namespace {

constexpr std::uint32_t kRecordCountMask = 0x0fff'ffffU;
constexpr std::uint64_t kMarkDistanceMax = 0xffff'ffffU;

bool kind_is_defined(std::uint32_t kind_and_count) noexcept {
  const auto kind = kind_and_count >> 28;
  const auto count = kind_and_count & kRecordCountMask;
  return kind >= 1 && kind <= 6 && ((kind == 1) == (count != 0));
}

std::uint64_t epoch_number(std::uint64_t epoch) noexcept { return epoch >> 40; }

}  // namespace

void encode_frame_header(const FrameHeader& header, std::uint32_t seed, std::byte* to) noexcept {
  const auto distance =
      std::min(header.first_sequence - std::min(header.durable_mark, header.first_sequence),
               kMarkDistanceMax);
  store_le(to + 4, header.payload_crc32c ^ std::rotl(seed, 16));
  store_le(to + 8, static_cast<std::uint32_t>(header.payload_bytes));
  store_le(to + 12, static_cast<std::uint32_t>(header.kind) << 28 | header.record_count);
  store_le(to + 16, header.first_sequence);
  store_le(to + 24, header.epoch);
  store_le48(to + 32, header.time_ms);
  store_le(to + 38, static_cast<std::uint32_t>(distance));
  store_le(to, crc32c(seed, {to + 4, kFrameHeaderBytes - 4}));
}

bool may_be_frame_header(const std::byte* bytes) noexcept {
  const auto kind_and_count = load_le<std::uint32_t>(bytes + 12);
  if (!kind_is_defined(kind_and_count)) {
    return false;
  }
  const auto first_sequence = load_le<std::uint64_t>(bytes + 16);
  const auto distance = load_le<std::uint32_t>(bytes + 38);
  return distance <= first_sequence && first_sequence <= kCountMax;
}

std::optional<FrameHeader> decode_frame_header(ByteView bytes, std::uint32_t seed) noexcept {
  if (bytes.size() < kFrameHeaderBytes || !may_be_frame_header(bytes.data()) ||
      load_le<std::uint32_t>(bytes.data()) !=
          crc32c(seed, bytes.subspan(4, kFrameHeaderBytes - 4))) {
    return std::nullopt;
  }
  const std::byte* from = bytes.data();
  FrameHeader header;
  header.payload_crc32c = load_le<std::uint32_t>(from + 4) ^ std::rotl(seed, 16);
  header.payload_bytes = load_le<std::uint32_t>(from + 8);
  const auto kind_and_count = load_le<std::uint32_t>(from + 12);
  header.kind = static_cast<FrameKind>(kind_and_count >> 28);
  header.record_count = kind_and_count & kRecordCountMask;
  header.first_sequence = load_le<std::uint64_t>(from + 16);
  header.epoch = load_le<std::uint64_t>(from + 24);
  header.time_ms = load_le48(from + 32);
  const auto distance = std::uint64_t{load_le<std::uint32_t>(from + 38)};
  header.durable_mark = distance == kMarkDistanceMax ? 0 : header.first_sequence - distance;
  return header;
}

bool payload_matches(const FrameHeader& header, ByteView payload) noexcept {
  return payload.size() == header.payload_bytes && crc32c(0, payload) == header.payload_crc32c;
}

void encode_opening(const OpeningPayload& opening, std::byte* to) noexcept {
  store_le(to, opening.previous_epoch);
}

std::optional<OpeningPayload> decode_opening(ByteView payload) noexcept {
  if (payload.size() < kOpeningPayloadBytes) {
    return std::nullopt;
  }
  return OpeningPayload{.previous_epoch = load_le<std::uint64_t>(payload.data())};
}

void encode_rotation(const RotationPayload& rotation, std::byte* to) noexcept {
  store_le(to, rotation.next_segment_id);
  store_le(to + 8, rotation.next_offset);
  store_le(to + 16, rotation.next_ring_base);
}

std::optional<RotationPayload> decode_rotation(ByteView payload) noexcept {
  if (payload.size() < kRotationPayloadBytes) {
    return std::nullopt;
  }
  const RotationPayload rotation{.next_segment_id = load_le<std::uint64_t>(payload.data()),
                                 .next_offset = load_le<std::uint64_t>(payload.data() + 8),
                                 .next_ring_base = load_le<std::uint64_t>(payload.data() + 16)};
  if (!is_first_offset(rotation.next_offset) || rotation.next_ring_base > kCountMax) {
    return std::nullopt;
  }
  return rotation;
}

bool FrameChain::may_be_continued_by(const FrameHeader& header) const noexcept {
  if (header.first_sequence != next_sequence) {
    return false;
  }
  return header.kind == FrameKind::opening ? epoch_number(header.epoch) > epoch_number(epoch)
                                           : header.epoch == epoch;
}

bool FrameChain::continued_by(const FrameHeader& header, ByteView payload) const noexcept {
  if (!may_be_continued_by(header)) {
    return false;
  }
  if (header.kind == FrameKind::opening) {
    const auto opening = decode_opening(payload);
    return opening && opening->previous_epoch == epoch;
  }
  return header.kind != FrameKind::rotation || decode_rotation(payload).has_value();
}

void FrameChain::advance(const FrameHeader& header) noexcept {
  next_sequence = header.end_sequence();
  epoch = header.epoch;
  time_ms = std::max(time_ms, header.time_ms);
}

}  // namespace nori
