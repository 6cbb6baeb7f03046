#include "format/snapshot_block.h"

#include <array>
#include <chrono>
#include <cstring>

#include "base/crc32c.h"
#include "base/little_endian.h"
#include "base/varint.h"
#include "format/log_id.h"
#include "format/record.h"

namespace nori {
namespace {

constexpr std::uint8_t kHasExpiry = 1;
constexpr std::uint8_t kHasEpoch = 2;
// To find out that a block does not shrink takes as long as all the rest of writing it: values of
// noise are written at 3.3 M entries a second, with every block tried at 1.9
// (nori_bench_snapshots).
constexpr std::uint32_t kUntriedBlocks = 7;
constexpr std::size_t kEntryHeadBytesMax = 1 + 3 * kVarintBytesMax + 8 + 8;

// Less is not worth decompressing.
constexpr bool shrinks_enough(std::uint64_t stored_bytes, std::uint64_t plain_bytes) noexcept {
  return stored_bytes <= plain_bytes - plain_bytes / 8;
}

}  // namespace

void SnapshotBlockBuilder::add(const SnapshotEntry& entry) {
  const bool has_epoch = empty() || entry.epoch != epoch_;
  std::array<std::byte, kEntryHeadBytesMax> head;
  head[0] =
      static_cast<std::byte>((entry.expires_at ? kHasExpiry : 0) | (has_epoch ? kHasEpoch : 0));
  auto* to = store_varint(&head[1], entry.key.size());
  to = store_varint(to, entry.value.size());
  to = store_varint(to, entry.sequence);
  if (has_epoch) {
    store_le(to, entry.epoch.bits);
    to += 8;
  }
  if (entry.expires_at) {
    const auto since_1970 = entry.expires_at->time_since_epoch();
    store_le(to, static_cast<std::int64_t>(
                     std::chrono::floor<std::chrono::milliseconds>(since_1970).count()));
    to += 8;
  }
  plain_.append(reinterpret_cast<const char*>(head.data()),
                static_cast<std::size_t>(to - head.data()));
  plain_.append(entry.key);
  plain_.append(entry.value);
  epoch_ = entry.epoch;
  ++entries_;
}

void SnapshotBlockBuilder::finish(Compression compression, std::uint32_t seed, std::uint64_t offset,
                                  std::string& to) {
  std::string_view stored = plain_;
  if (compression != Compression::none && untried_blocks_ > 0) {
    --untried_blocks_;
    compression = Compression::none;
  } else if (compression != Compression::none) {
    stored = compressed_.compress(plain_, compression);
    if (!shrinks_enough(stored.size(), plain_.size())) {
      compression = Compression::none;
      stored = plain_;
      untried_blocks_ = kUntriedBlocks;
    }
  }
  const auto block_at = to.size();
  std::array<std::byte, kSnapshotBlockHeaderBytes> header = {};
  store_le(&header[4], static_cast<std::uint32_t>(compression));
  store_le(&header[8], entries_);
  store_le(&header[16], std::uint64_t{plain_.size()});
  to.append(reinterpret_cast<const char*>(header.data()), header.size()).append(stored);
  auto* const block = reinterpret_cast<std::byte*>(to.data() + block_at);
  store_le(block, crc32c(place_seed(seed, offset), {block + 4, to.size() - block_at - 4}));
  if (plain_.size() > kCompressedValueBytesMax) {
    plain_ = {};  // gives back what one large entry took
  }
  plain_.clear();
  entries_ = 0;
}

bool SnapshotBlock::open(ByteView block, std::uint32_t seed, std::uint64_t offset,
                         Sequence end_sequence) {
  begin_ = end_ = nullptr;
  entries_ = 0;
  rewind();
  if (block.size() < kSnapshotBlockBytesMin ||
      load_le<std::uint32_t>(block.data()) != crc32c(place_seed(seed, offset), block.subspan(4))) {
    return false;
  }
  const auto compression = load_le<std::uint32_t>(block.data() + 4);
  const auto entries = load_le<std::uint64_t>(block.data() + 8);
  const auto plain_bytes = load_le<std::uint64_t>(block.data() + 16);
  const auto stored = as_text(block.subspan(kSnapshotBlockHeaderBytes));
  std::string_view plain = stored;
  if (compression == static_cast<std::uint32_t>(Compression::lz4) ||
      compression == static_cast<std::uint32_t>(Compression::zstd)) {
    if (!plain_.decompress(static_cast<Compression>(compression), stored, plain_bytes, plain)) {
      return false;
    }
  } else if (compression != static_cast<std::uint32_t>(Compression::none)) {
    return false;
  }
  if (plain.size() != plain_bytes || entries == 0) {
    return false;
  }
  begin_ = as_byte_view(plain).data();
  end_ = begin_ + plain.size();
  entries_ = entries;
  end_sequence_ = end_sequence;
  rewind();
  return true;
}

SnapshotBlock::Step SnapshotBlock::next(SnapshotEntry& entry) noexcept {
  const std::byte* at = cursor_.at;
  if (cursor_.entries_left == 0) {
    return at == end_ ? Step::end : Step::malformed;
  }
  if (at == end_) {
    return Step::malformed;
  }
  const auto flags = std::to_integer<std::uint8_t>(*at++);
  std::uint64_t key_bytes = 0;
  std::uint64_t value_bytes = 0;
  if ((flags & ~(kHasExpiry | kHasEpoch)) != 0 ||
      (at = load_varint(at, end_, key_bytes)) == nullptr ||
      (at = load_varint(at, end_, value_bytes)) == nullptr ||
      (at = load_varint(at, end_, entry.sequence)) == nullptr || entry.sequence >= end_sequence_) {
    return Step::malformed;
  }
  const auto left = [&] { return static_cast<std::uint64_t>(end_ - at); };
  entry.epoch = cursor_.epoch;
  if ((flags & kHasEpoch) != 0) {
    if (left() < 8) {
      return Step::malformed;
    }
    entry.epoch.bits = load_le<std::uint64_t>(at);
    at += 8;
  } else if (cursor_.is_first) {
    return Step::malformed;
  }
  entry.expires_at.reset();
  if ((flags & kHasExpiry) != 0) {
    if (left() < 8) {
      return Step::malformed;
    }
    entry.expires_at = time_point_of(load_le<std::int64_t>(at));
    at += 8;
  }
  if (key_bytes > left() || value_bytes > left() - key_bytes) {
    return Step::malformed;
  }
  entry.key = as_text({at, key_bytes});
  entry.value = as_text({at + key_bytes, value_bytes});
  if (!cursor_.is_first && entry.key <= cursor_.key) {
    return Step::malformed;
  }
  cursor_ = {.at = at + key_bytes + value_bytes,
             .entries_left = cursor_.entries_left - 1,
             .epoch = entry.epoch,
             .is_first = false,
             .key = entry.key};
  return Step::entry;
}

}  // namespace nori
