#include "format/snapshot_header.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/crc32c.h"
#include "base/little_endian.h"
#include "format/snapshot_block.h"
#include "format/snapshot_index.h"

namespace nori {
namespace {

constexpr char kHeaderMagic[] = "norisnap";
constexpr char kFooterMagic[] = "snapfoot";
constexpr std::size_t kMagicBytes = 8;
constexpr std::size_t kHeaderCrcOffset = kSnapshotHeaderBytes - 4;
constexpr std::size_t kFooterCrcOffset = kSnapshotFooterBytes - 4;

std::uint32_t header_crc(const std::byte* bytes, const SnapshotHeader& header) noexcept {
  return crc32c(place_seed(header.seed(), 0), {bytes, kHeaderCrcOffset});
}

// What the numbers of a footer can be, whatever the rest of the file is.
bool is_possible(const SnapshotFooter& footer, std::uint64_t offset) noexcept {
  if (footer.index_offset < kSnapshotHeaderBytes || footer.index_offset > offset ||
      footer.index_bytes != offset - footer.index_offset ||
      footer.index_bytes < kSnapshotIndexBytesMin) {
    return false;
  }
  const auto blocks_bytes = footer.index_offset - kSnapshotHeaderBytes;
  return footer.blocks <= blocks_bytes / kSnapshotBlockBytesMin && footer.entries <= kCountMax &&
         footer.plain_bytes <= kCountMax && footer.blocks <= footer.entries &&
         (footer.blocks == 0) == (footer.entries == 0);
}

}  // namespace

std::uint32_t SnapshotHeader::seed() const noexcept {
  std::array<std::byte, 32> bytes;
  std::memcpy(bytes.data(), kHeaderMagic, kMagicBytes);
  std::ranges::copy(log_id.bytes, &bytes[8]);
  store_le(&bytes[24], sequence);
  return crc32c(0, bytes);
}

void encode_snapshot_header(const SnapshotHeader& header, std::byte* to) noexcept {
  std::memset(to, 0, kSnapshotHeaderBytes);
  std::memcpy(to, kHeaderMagic, kMagicBytes);
  store_le(to + 8, kSnapshotVersion);
  std::ranges::copy(header.log_id.bytes, to + 16);
  store_le(to + 32, header.sequence);
  store_le(to + 40, header.epoch);
  store_le(to + 48, header.created_ms);
  store_le(to + kHeaderCrcOffset, header_crc(to, header));
}

std::expected<SnapshotHeader, HeaderError> decode_snapshot_header(ByteView bytes) noexcept {
  if (bytes.size() < kSnapshotHeaderBytes) {
    return std::unexpected(HeaderError{.fault = HeaderFault::too_short});
  }
  const std::byte* const from = bytes.data();
  SnapshotHeader header;
  std::copy(from + 16, from + 32, header.log_id.bytes.begin());
  header.sequence = load_le<std::uint64_t>(from + 32);
  header.epoch = load_le<std::uint64_t>(from + 40);
  header.created_ms = load_le<std::uint64_t>(from + 48);
  if (std::memcmp(from, kHeaderMagic, kMagicBytes) != 0 ||
      load_le<std::uint32_t>(from + kHeaderCrcOffset) != header_crc(from, header)) {
    return std::unexpected(HeaderError{.fault = HeaderFault::bad});
  }
  if (const auto version = load_le<std::uint32_t>(from + 8); version != kSnapshotVersion) {
    return std::unexpected(
        HeaderError{.fault = HeaderFault::unsupported_version, .version = version});
  }
  if (header.sequence > kCountMax) {
    return std::unexpected(HeaderError{.fault = HeaderFault::bad});
  }
  return header;
}

void encode_snapshot_footer(const SnapshotFooter& footer, std::uint32_t seed,
                            std::byte* to) noexcept {
  std::memset(to, 0, kSnapshotFooterBytes);
  std::memcpy(to, kFooterMagic, kMagicBytes);
  store_le(to + 8, footer.index_offset);
  store_le(to + 16, footer.index_bytes);
  store_le(to + 24, footer.blocks);
  store_le(to + 32, footer.entries);
  store_le(to + 40, footer.plain_bytes);
  const auto place = place_seed(seed, footer.index_offset + footer.index_bytes);
  store_le(to + kFooterCrcOffset, crc32c(place, {to, kFooterCrcOffset}));
}

std::optional<SnapshotFooter> decode_snapshot_footer(ByteView bytes, std::uint32_t seed,
                                                     std::uint64_t offset) noexcept {
  if (bytes.size() < kSnapshotFooterBytes) {
    return std::nullopt;
  }
  const std::byte* const from = bytes.data();
  if (std::memcmp(from, kFooterMagic, kMagicBytes) != 0 ||
      load_le<std::uint32_t>(from + kFooterCrcOffset) !=
          crc32c(place_seed(seed, offset), {from, kFooterCrcOffset})) {
    return std::nullopt;
  }
  const SnapshotFooter footer{.index_offset = load_le<std::uint64_t>(from + 8),
                              .index_bytes = load_le<std::uint64_t>(from + 16),
                              .blocks = load_le<std::uint64_t>(from + 24),
                              .entries = load_le<std::uint64_t>(from + 32),
                              .plain_bytes = load_le<std::uint64_t>(from + 40)};
  if (!is_possible(footer, offset)) {
    return std::nullopt;
  }
  return footer;
}

}  // namespace nori
