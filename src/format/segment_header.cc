#include "format/segment_header.h"

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "base/little_endian.h"

namespace nori {
namespace {

constexpr char kMagic[] = "noriwal\n";
constexpr std::size_t kMagicBytes = 8;
constexpr std::size_t kCrcOffset = kSegmentHeaderBytes - 4;

std::uint32_t header_crc(const std::byte* bytes, const SegmentHeader& header) noexcept {
  return crc32c(place_seed(header.seed(), 0), {bytes, kCrcOffset});
}

}  // namespace

void encode_segment_header(const SegmentHeader& header, std::byte* to) noexcept {
  std::memset(to, 0, kSegmentHeaderBytes);
  std::memcpy(to, kMagic, kMagicBytes);
  store_le(to + 8, kFormatVersion);
  store_le(to + 12, header.generation);
  std::copy(header.log_id.bytes.begin(), header.log_id.bytes.end(), to + 16);
  store_le(to + 32, header.first_segment);
  store_le(to + 40, header.last_segment);
  store_le(to + 48, header.first_sequence);
  store_le(to + 56, header.epoch);
  store_le(to + 64, header.durable_mark);
  store_le(to + 72, header.created_ms);
  store_le(to + 80, header.first_offset);
  store_le(to + 88, header.ring_base);
  store_le(to + kCrcOffset, header_crc(to, header));
}

std::expected<SegmentHeader, HeaderError> decode_segment_header(ByteView bytes) noexcept {
  if (bytes.size() < kSegmentHeaderBytes) {
    return std::unexpected(HeaderError{.fault = HeaderFault::too_short});
  }
  bytes = bytes.first(kSegmentHeaderBytes);
  const std::byte* from = bytes.data();
  if (std::memcmp(from, kMagic, kMagicBytes) != 0) {
    const bool blank = std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
    return std::unexpected(HeaderError{.fault = blank ? HeaderFault::blank : HeaderFault::bad});
  }
  SegmentHeader header;
  header.generation = load_le<std::uint32_t>(from + 12);
  std::copy(from + 16, from + 32, header.log_id.bytes.begin());
  header.first_segment = load_le<std::uint64_t>(from + 32);
  header.last_segment = load_le<std::uint64_t>(from + 40);
  header.first_sequence = load_le<std::uint64_t>(from + 48);
  header.epoch = load_le<std::uint64_t>(from + 56);
  header.durable_mark = load_le<std::uint64_t>(from + 64);
  header.created_ms = load_le<std::uint64_t>(from + 72);
  header.first_offset = load_le<std::uint64_t>(from + 80);
  header.ring_base = load_le<std::uint64_t>(from + 88);
  if (load_le<std::uint32_t>(from + kCrcOffset) != header_crc(from, header)) {
    return std::unexpected(HeaderError{.fault = HeaderFault::bad});
  }
  if (const auto version = load_le<std::uint32_t>(from + 8); version != kFormatVersion) {
    return std::unexpected(
        HeaderError{.fault = HeaderFault::unsupported_version, .version = version});
  }
  const bool range_fits = header.is_compacted() ? header.first_segment <= header.last_segment
                                                : header.first_segment == header.last_segment;
  if (!range_fits || !is_first_offset(header.first_offset) ||
      std::max({header.last_segment, header.first_sequence, header.ring_base}) > kCountMax) {
    return std::unexpected(HeaderError{.fault = HeaderFault::bad});
  }
  return header;
}

}  // namespace nori
