#include "format/ring_header.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/crc32c.h"
#include "base/little_endian.h"

namespace nori {
namespace {

constexpr char kMagic[] = "noriring";
constexpr std::uint32_t kVersion = 1;
constexpr std::uint64_t kRingBytesMin = 4096;

}  // namespace

void encode_ring_header(const RingHeader& header, std::byte* to) noexcept {
  std::memset(to, 0, kRingHeaderBytes);
  std::memcpy(to, kMagic, 8);
  store_le(to + 8, kVersion);
  std::copy(header.log_id.bytes.begin(), header.log_id.bytes.end(), to + 16);
  store_le(to + 32, header.ring_bytes);
  store_le(to + 40, crc32c(0, {to, 40}));
}

std::expected<RingHeader, HeaderError> decode_ring_header(ByteView bytes) noexcept {
  if (bytes.size() < kRingHeaderBytes) {
    return std::unexpected(HeaderError{.fault = HeaderFault::too_short});
  }
  bytes = bytes.first(kRingHeaderBytes);
  const std::byte* from = bytes.data();
  if (std::memcmp(from, kMagic, 8) != 0 ||
      load_le<std::uint32_t>(from + 40) != crc32c(0, bytes.first(40))) {
    const bool blank = std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
    return std::unexpected(HeaderError{.fault = blank ? HeaderFault::blank : HeaderFault::bad});
  }
  if (const auto version = load_le<std::uint32_t>(from + 8); version != kVersion) {
    return std::unexpected(
        HeaderError{.fault = HeaderFault::unsupported_version, .version = version});
  }
  RingHeader header;
  std::copy(from + 16, from + 32, header.log_id.bytes.begin());
  header.ring_bytes = load_le<std::uint64_t>(from + 32);
  if (!std::has_single_bit(header.ring_bytes) || header.ring_bytes < kRingBytesMin) {
    return std::unexpected(HeaderError{.fault = HeaderFault::bad});
  }
  return header;
}

void encode_ring_mark(const RingMark& mark, const LogId& log_id, std::uint64_t slot,
                      ByteSpan ring) noexcept {
  std::byte bytes[kRingMarkBytes];
  store_le(bytes, mark.durable_mark);
  store_le(bytes + 8, mark.segment_id);
  store_le(bytes + 16, crc32c(crc32c(0, log_id.bytes), {bytes, 16}));
  std::memcpy(ring.data() + kRingMarkOffset + (slot & 1) * kRingMarkStride, bytes, sizeof(bytes));
}

std::optional<RingMark> decode_ring_mark(ByteView ring, const LogId& log_id) noexcept {
  std::optional<RingMark> best;
  for (std::size_t slot = 0; slot < 2; ++slot) {
    const std::size_t offset = kRingMarkOffset + slot * kRingMarkStride;
    if (ring.size() < offset + kRingMarkBytes) {
      break;
    }
    const std::byte* from = ring.data() + offset;
    if (load_le<std::uint32_t>(from + 16) != crc32c(crc32c(0, log_id.bytes), {from, 16})) {
      continue;
    }
    const RingMark mark{.durable_mark = load_le<std::uint64_t>(from),
                        .segment_id = load_le<std::uint64_t>(from + 8)};
    if (!best || mark.durable_mark >= best->durable_mark) {
      best = mark;
    }
  }
  return best;
}

}  // namespace nori
