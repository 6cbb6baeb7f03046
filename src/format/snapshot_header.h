// The first and the last bytes of a snapshot's file.
//
//   header, offset  size  field
//                0     8  magic        "norisnap"
//                8     4  version      1; it stands for everything in the file
//               12     4  zeros
//               16    16  log_id       of the log it was made from
//               32     8  sequence     it holds what the records before this one made; below 2^63
//               40     8  epoch        of the record before that; 0 if there was none
//               48     8  created_ms   since 1970
//               56    68  zeros
//              124     4  crc32c       of the 124 bytes before it
//
//   footer, offset  size  field
//                0     8  magic         "snapfoot"
//                8     8  index_offset  the blocks lie before it, behind the header
//               16     8  index_bytes   the index ends where the footer begins
//               24     8  blocks
//               32     8  entries
//               40     8  plain_bytes   of all blocks, decompressed
//               48    12  zeros
//               60     4  crc32c        of the 60 bytes before it
//
// Every checksum in the file is seeded with the place its bytes stand at and with log id and
// sequence (SnapshotHeader::seed), so that what stands under another name or in another log's
// directory is not valid. The file ends with the footer. A worked example in bytes:
// docs/format.md#snapshot.

#pragma once

#include <cstdint>
#include <expected>
#include <optional>

#include "base/bytes.h"
#include "format/log_id.h"
#include "format/segment_header.h"
#include "nori/position.h"

namespace nori {

inline constexpr std::size_t kSnapshotHeaderBytes = 128;
inline constexpr std::size_t kSnapshotFooterBytes = 64;
inline constexpr std::uint32_t kSnapshotVersion = 1;

struct SnapshotHeader {
  LogId log_id;
  Sequence sequence = 0;
  std::uint64_t epoch = 0;
  std::uint64_t created_ms = 0;

  /// What all of the file is bound to.
  [[nodiscard]] std::uint32_t seed() const noexcept;
};

struct SnapshotFooter {
  std::uint64_t index_offset = 0;
  std::uint64_t index_bytes = 0;
  std::uint64_t blocks = 0;
  std::uint64_t entries = 0;
  std::uint64_t plain_bytes = 0;

  friend bool operator==(const SnapshotFooter&, const SnapshotFooter&) = default;
};

/// Writes kSnapshotHeaderBytes.
void encode_snapshot_header(const SnapshotHeader& header, std::byte* to) noexcept;

/// Reads a header from the front of `bytes`. It is bound to the log id and sequence it holds
/// itself: whether they are the right ones is for the caller to see.
[[nodiscard]] std::expected<SnapshotHeader, HeaderError> decode_snapshot_header(
    ByteView bytes) noexcept;

/// Writes kSnapshotFooterBytes, to stand behind the index.
void encode_snapshot_footer(const SnapshotFooter& footer, std::uint32_t seed,
                            std::byte* to) noexcept;

/// Reads the footer that stands at `offset` of the file; nothing if it is not valid there.
[[nodiscard]] std::optional<SnapshotFooter> decode_snapshot_footer(ByteView bytes,
                                                                   std::uint32_t seed,
                                                                   std::uint64_t offset) noexcept;

}  // namespace nori
