#include "format/frame.h"

#include "base/little_endian.h"
#include "format/log_id.h"
#include "format/segment_header.h"

namespace nori {
namespace {

std::uint64_t epoch_number(std::uint64_t epoch) noexcept { return epoch >> 40; }

}  // namespace

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
  if (header.first_sequence != next_sequence || header.kind == FrameKind::compacted) {
    return false;
  }
  return header.kind == FrameKind::opening ? epoch_number(header.epoch) > epoch_number(epoch)
                                           : header.epoch == epoch;
}

bool FrameChain::may_be_continued_in_compacted(const FrameHeader& header) const noexcept {
  return (header.kind == FrameKind::compacted || header.kind == FrameKind::rotation) &&
         header.first_sequence == next_sequence &&
         (header.epoch == epoch || epoch_number(header.epoch) > epoch_number(epoch));
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

}  // namespace nori
