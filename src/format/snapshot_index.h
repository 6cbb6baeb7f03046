// A snapshot's index: where its blocks begin, and which keys they hold.
//
//   offset  size  field
//        0     4  crc32c   of the index behind it, seeded with the index's place
//        4        for each block, in order:
//                 varint   block_bytes      the first block stands behind the header, the others
//                                           each behind the one before, the index behind the last
//                 varint   separator_bytes
//                          separator        above every key before the block, not above its first
//
// The first separator is empty, the others ascend. A separator is the first key as far as it
// differs from the last one before it.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "format/snapshot_header.h"

namespace nori {

inline constexpr std::size_t kSnapshotIndexBytesMin = 4;

/// The shortest prefix of `key` that is above `key_before`, which is below `key`.
[[nodiscard]] std::string_view separator_of(std::string_view key_before,
                                            std::string_view key) noexcept;

/// Puts an index together.
class SnapshotIndexBuilder {
 public:
  void add(std::uint64_t block_bytes, std::string_view separator);
  [[nodiscard]] std::uint64_t blocks() const noexcept { return blocks_; }
  /// The index, to stand at `offset`.
  [[nodiscard]] std::string finish(std::uint32_t seed, std::uint64_t offset) &&;

 private:
  std::string bytes_ = std::string(kSnapshotIndexBytesMin, '\0');
  std::uint64_t blocks_ = 0;
};

/// An index as read. Threads: any; it does not change.
class SnapshotIndex {
 public:
  struct Block {
    std::uint64_t offset = 0;
    std::uint64_t bytes = 0;
  };

  /// Reads `bytes`, of footer.index_bytes bytes. Nothing if they are not the index that belongs to
  /// the footer. Besides `bytes` it allocates less than the blocks are large.
  [[nodiscard]] static std::optional<SnapshotIndex> decode(std::vector<std::byte> bytes,
                                                           const SnapshotFooter& footer,
                                                           std::uint32_t seed);

  [[nodiscard]] std::size_t blocks() const noexcept { return places_.size(); }
  [[nodiscard]] Block block(std::size_t i) const noexcept {
    const auto end = i + 1 < places_.size() ? places_[i + 1].offset : end_offset_;
    return {.offset = places_[i].offset, .bytes = end - places_[i].offset};
  }
  [[nodiscard]] std::string_view separator(std::size_t i) const noexcept {
    return as_text(ByteView(bytes_).subspan(places_[i].separator_at, places_[i].separator_bytes));
  }
  /// The block that holds `key` if any does. There is at least one.
  [[nodiscard]] std::size_t block_of(std::string_view key) const noexcept;

 private:
  struct Place {
    std::uint64_t offset = 0;
    std::uint64_t separator_at = 0;
    std::uint64_t separator_bytes = 0;
  };
  static_assert(sizeof(Place) <= 25, "less than the smallest block");

  std::vector<std::byte> bytes_;
  std::vector<Place> places_;
  std::uint64_t end_offset_ = 0;
};

}  // namespace nori
