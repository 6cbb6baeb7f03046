#include "format/cursor.h"

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "base/little_endian.h"

namespace nori {
namespace {

constexpr char kMagic[] = "noricurs";
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kCrcOffset = kCursorBytes - 4;

}  // namespace

void encode_cursor(const CursorValue& value, std::byte* to) noexcept {
  std::memset(to, 0, kCursorBytes);
  std::memcpy(to, kMagic, 8);
  store_le(to + 8, kVersion);
  std::copy(value.log_id.bytes.begin(), value.log_id.bytes.end(), to + 16);
  store_le(to + 32, value.position.segment_id);
  store_le(to + 40, value.position.offset);
  store_le(to + 48, value.position.sequence);
  store_le(to + 56, value.created_ms);
  store_le(to + 64, value.committed_ms);
  store_le(to + 72, value.lag_bytes_max);
  store_le(to + kCrcOffset, crc32c(0, {to, kCrcOffset}));
}

std::expected<CursorValue, HeaderError> decode_cursor(ByteView file) noexcept {
  if (file.size() < kCursorBytes) {
    return std::unexpected(HeaderError{.fault = HeaderFault::too_short});
  }
  const std::byte* from = file.data();
  if (std::memcmp(from, kMagic, 8) != 0 ||
      load_le<std::uint32_t>(from + kCrcOffset) != crc32c(0, file.first(kCrcOffset))) {
    const bool blank = std::ranges::all_of(file, [](std::byte b) { return b == std::byte{0}; });
    return std::unexpected(HeaderError{.fault = blank ? HeaderFault::blank : HeaderFault::bad});
  }
  if (const auto version = load_le<std::uint32_t>(from + 8); version != kVersion) {
    return std::unexpected(
        HeaderError{.fault = HeaderFault::unsupported_version, .version = version});
  }
  CursorValue value;
  std::copy(from + 16, from + 32, value.log_id.bytes.begin());
  value.position.segment_id = load_le<std::uint64_t>(from + 32);
  value.position.offset = load_le<std::uint64_t>(from + 40);
  value.position.sequence = load_le<std::uint64_t>(from + 48);
  value.created_ms = load_le<std::uint64_t>(from + 56);
  value.committed_ms = load_le<std::uint64_t>(from + 64);
  value.lag_bytes_max = load_le<std::uint64_t>(from + 72);
  if (file.size() != kCursorBytes ||
      std::max(value.position.segment_id, value.position.sequence) > kCountMax) {
    return std::unexpected(HeaderError{.fault = HeaderFault::bad});
  }
  return value;
}

}  // namespace nori
