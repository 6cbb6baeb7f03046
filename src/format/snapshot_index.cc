#include "format/snapshot_index.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/crc32c.h"
#include "base/little_endian.h"
#include "base/varint.h"
#include "format/snapshot_block.h"

namespace nori {

std::string_view separator_of(std::string_view key_before, std::string_view key) noexcept {
  const auto [before, at] = std::ranges::mismatch(key_before, key);
  return key.substr(0, static_cast<std::size_t>(at - key.begin()) + 1);
}

void SnapshotIndexBuilder::add(std::uint64_t block_bytes, std::string_view separator) {
  std::array<std::byte, 2 * kVarintBytesMax> head;
  auto* to = store_varint(head.data(), block_bytes);
  to = store_varint(to, separator.size());
  bytes_.append(as_text({head.data(), to})).append(separator);
  ++blocks_;
}

std::string SnapshotIndexBuilder::finish(std::uint32_t seed, std::uint64_t offset) && {
  const auto behind = as_byte_view(bytes_).subspan(kSnapshotIndexBytesMin);
  store_le(reinterpret_cast<std::byte*>(bytes_.data()), crc32c(place_seed(seed, offset), behind));
  return std::move(bytes_);
}

std::optional<SnapshotIndex> SnapshotIndex::decode(std::vector<std::byte> bytes,
                                                   const SnapshotFooter& footer,
                                                   std::uint32_t seed) {
  const ByteView view = bytes;
  if (view.size() != footer.index_bytes || view.size() < kSnapshotIndexBytesMin ||
      load_le<std::uint32_t>(view.data()) !=
          crc32c(place_seed(seed, footer.index_offset), view.subspan(kSnapshotIndexBytesMin))) {
    return std::nullopt;
  }
  SnapshotIndex index;
  index.places_.reserve(footer.blocks);
  std::uint64_t offset = kSnapshotHeaderBytes;
  std::string_view separator_before;
  const std::byte* at = view.data() + kSnapshotIndexBytesMin;
  const std::byte* const end = view.data() + view.size();
  while (index.places_.size() < footer.blocks) {
    std::uint64_t block_bytes = 0;
    std::uint64_t separator_bytes = 0;
    if ((at = load_varint(at, end, block_bytes)) == nullptr ||
        (at = load_varint(at, end, separator_bytes)) == nullptr ||
        separator_bytes > static_cast<std::uint64_t>(end - at) ||
        block_bytes < kSnapshotBlockBytesMin || block_bytes > footer.index_offset - offset) {
      return std::nullopt;
    }
    const auto separator = as_text({at, separator_bytes});
    if (index.places_.empty() ? !separator.empty() : separator <= separator_before) {
      return std::nullopt;
    }
    index.places_.push_back({.offset = offset,
                             .separator_at = static_cast<std::uint64_t>(at - view.data()),
                             .separator_bytes = separator_bytes});
    separator_before = separator;
    offset += block_bytes;
    at += separator_bytes;
  }
  if (at != end || offset != footer.index_offset) {
    return std::nullopt;
  }
  index.bytes_ = std::move(bytes);
  index.end_offset_ = offset;
  return index;
}

std::size_t SnapshotIndex::block_of(std::string_view key) const noexcept {
  const auto behind = std::ranges::upper_bound(places_, key, {}, [&](const Place& place) {
    return as_text(ByteView(bytes_).subspan(place.separator_at, place.separator_bytes));
  });
  return static_cast<std::size_t>(behind - places_.begin()) - 1;
}

}  // namespace nori
