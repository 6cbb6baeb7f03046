#include "fuzz/signing.h"

#include <algorithm>
#include <bit>

#include "base/crc32c.h"
#include "base/little_endian.h"
#include "format/frame.h"
#include "format/log_id.h"
#include "format/ring_header.h"
#include "format/segment_footer.h"
#include "format/segment_header.h"

namespace nori::fuzz {
namespace {

// Where the fields are that a checksum depends on: docs/format.md.
constexpr std::size_t kLogIdOffset = 16;
constexpr std::size_t kFirstSegmentOffset = 32;
constexpr std::size_t kFirstOffsetOffset = 80;
constexpr std::uint64_t kStrideBytes = 64;

void sign(std::byte* checksum, std::uint32_t value) {
  if (load_le<std::uint32_t>(checksum) != kKeepChecksum) {
    store_le(checksum, value);
  }
}

LogId log_id_at(const std::byte* from) {
  LogId log_id;
  std::copy(from, from + log_id.bytes.size(), log_id.bytes.begin());
  return log_id;
}

}  // namespace

std::uint32_t seed_of(ByteView file) {
  if (file.size() < kSegmentHeaderBytes) {
    return 0;
  }
  // Frames are bound to generation 0, whatever the header says.
  return segment_seed(log_id_at(file.data() + kLogIdOffset), 0,
                      load_le<std::uint64_t>(file.data() + kFirstSegmentOffset));
}

void sign_segment_header(ByteSpan file) {
  if (file.size() < kSegmentHeaderBytes) {
    return;
  }
  const auto seed =
      segment_seed(log_id_at(file.data() + kLogIdOffset), load_le<std::uint32_t>(file.data() + 12),
                   load_le<std::uint64_t>(file.data() + kFirstSegmentOffset));
  constexpr auto kSigned = kSegmentHeaderBytes - 4;
  sign(file.data() + kSigned, crc32c(place_seed(seed, 0), file.first(kSigned)));
}

std::uint64_t sign_frame(ByteSpan bytes, std::uint32_t place_seed) {
  if (bytes.size() < kFrameHeaderBytes || !may_be_frame_header(bytes.data())) {
    return 0;
  }
  const std::uint64_t payload_bytes = load_le<std::uint32_t>(bytes.data() + 8);
  if (payload_bytes <= bytes.size() - kFrameHeaderBytes) {
    sign(bytes.data() + 4,
         crc32c(0, bytes.subspan(kFrameHeaderBytes, payload_bytes)) ^ std::rotl(place_seed, 16));
  }
  sign(bytes.data(), crc32c(place_seed, bytes.subspan(4, kFrameHeaderBytes - 4)));
  return kFrameHeaderBytes + payload_bytes;
}

void sign_footer(ByteSpan file, std::uint32_t segment_seed) {
  if (file.size() < kFooterTrailerBytes) {
    return;
  }
  const auto footer_bytes = decode_footer_bytes(file.last(kFooterTrailerBytes));
  if (!footer_bytes || *footer_bytes > file.size()) {
    return;
  }
  const auto footer = file.last(*footer_bytes);
  sign(footer.data() + footer.size() - 4,
       crc32c(place_seed(segment_seed, file.size() - *footer_bytes),
              footer.first(footer.size() - 4)));
}

void sign_ring(ByteSpan file) {
  if (file.size() < kRingHeaderBytes) {
    return;
  }
  sign(file.data() + 40, crc32c(0, file.first(40)));
  const auto log_id = log_id_at(file.data() + kLogIdOffset);
  for (std::size_t slot = 0; slot < 2; ++slot) {
    const auto offset = kRingMarkOffset + slot * kRingMarkStride;
    if (file.size() >= offset + kRingMarkBytes) {
      sign(file.data() + offset + 16, crc32c(crc32c(0, log_id.bytes), file.subspan(offset, 16)));
    }
  }
}

void sign_segment(ByteSpan file) {
  if (file.size() < kSegmentHeaderBytes) {
    return;
  }
  sign_segment_header(file);
  const auto seed = seed_of(file);
  auto offset = load_le<std::uint64_t>(file.data() + kFirstOffsetOffset);
  if (!is_first_offset(offset)) {
    return;
  }
  while (offset < file.size()) {
    const auto frame_bytes = sign_frame(file.subspan(offset), place_seed(seed, offset));
    offset = frame_bytes != 0 ? offset + frame_bytes : round_up(offset + 1, kStrideBytes);
  }
  sign_footer(file, seed);
}

}  // namespace nori::fuzz
