// A snapshot's block: entries in the order of their keys, compressed as one.
//
//   offset  size  field
//        0     4  crc32c        of the block behind it, seeded with the block's place
//        4     4  compression   of the entries: 0 none, 1 LZ4, 2 Zstandard
//        8     8  entries       1 or more
//       16     8  plain_bytes   of the entries, decompressed: at most 2^24 if they are compressed
//       24        the entries, compressed or not, to the end of the block
//
//   entry   1       flags         bit 0: expires_at follows; bit 1: epoch follows; bits 2-7: 0
//           1..10   key_bytes     varint
//           1..10   value_bytes   varint
//           1..10   sequence      varint; below the snapshot's
//           8       epoch         only with bit 1; else it is that of the entry before. The first
//                                 entry of a block has it
//           8       expires_at    milliseconds since 1970, signed; only with bit 0
//                   key, then value
//
// A block is valid if its checksum matches, and it is exactly so many entries, keys ascending. What
// ends a block is the index's to say.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "format/value_compression.h"
#include "nori/snapshot.h"

namespace nori {

inline constexpr std::size_t kSnapshotBlockHeaderBytes = 24;
inline constexpr std::size_t kSnapshotBlockBytesMin = kSnapshotBlockHeaderBytes + 1;
/// Of an entry's key and value together.
inline constexpr std::uint64_t kSnapshotEntryBytesMax = (std::uint64_t{1} << 32) - 1;

/// Puts entries together into a block.
///
/// Threads: one at a time.
class SnapshotBlockBuilder {
 public:
  [[nodiscard]] bool empty() const noexcept { return entries_ == 0; }
  [[nodiscard]] std::uint64_t entries() const noexcept { return entries_; }
  /// Of what was added since the last finish().
  [[nodiscard]] std::uint64_t plain_bytes() const noexcept { return plain_.size(); }

  /// The entry's key is above that of the one before.
  void add(const SnapshotEntry& entry);

  /// Appends the block to `to`, bound to `offset` of the file, and begins anew. A block that does
  /// not shrink by an eighth is stored plain, and so are the next few, untried.
  void finish(Compression compression, std::uint32_t seed, std::uint64_t offset, std::string& to);

 private:
  std::string plain_;
  std::uint64_t entries_ = 0;
  Epoch epoch_;
  ValueBuffer compressed_;
  std::uint32_t untried_blocks_ = 0;
};

/// Takes a block apart.
///
/// Threads: one at a time. Lifetime: what open() was given outlives it, and so do the views of the
/// entries. Copies of Cursor are places to come back to.
class SnapshotBlock {
 public:
  enum class Step : std::uint8_t { entry, end, malformed };

  /// A place between two entries.
  struct Cursor {
    const std::byte* at = nullptr;
    std::uint64_t entries_left = 0;
    Epoch epoch;
    bool is_first = true;
    std::string_view key;  ///< Of the entry before; not if is_first.
  };

  /// False if `block` is not what a writer put at `offset`. Allocates no more than
  /// kCompressedValueBytesMax. `end_sequence` is the snapshot's.
  [[nodiscard]] bool open(ByteView block, std::uint32_t seed, std::uint64_t offset,
                          Sequence end_sequence);

  /// The entry at the cursor, which then stands behind it. Malformed is what only a forged checksum
  /// lets through; it stays so.
  [[nodiscard]] Step next(SnapshotEntry& entry) noexcept;

  [[nodiscard]] const Cursor& cursor() const noexcept { return cursor_; }
  void go_to(const Cursor& cursor) noexcept { cursor_ = cursor; }

  [[nodiscard]] std::uint64_t entries() const noexcept { return entries_; }
  [[nodiscard]] std::uint64_t plain_bytes() const noexcept {
    return static_cast<std::uint64_t>(end_ - begin_);
  }
  /// Stands before the first entry again.
  void rewind() noexcept {
    cursor_ = Cursor{};
    cursor_.at = begin_;
    cursor_.entries_left = entries_;
  }

 private:
  const std::byte* begin_ = nullptr;
  const std::byte* end_ = nullptr;
  std::uint64_t entries_ = 0;
  Sequence end_sequence_ = 0;
  Cursor cursor_;
  ValueBuffer plain_;
};

}  // namespace nori
