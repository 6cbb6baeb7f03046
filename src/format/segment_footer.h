// What a segment holds, in sum: written behind the frames of a sealed segment (the footer), and
// into the close frame of a log that was closed.
//
// The summary:
//   offset  size  field
//        0     8  frames
//        8     8  records
//       16     8  padding_bytes    of frames without records
//       24     8  first_sequence   [first_sequence, end_sequence)
//       32     8  end_sequence
//       40     8  first_time_ms    of the first frame
//       48     8  last_time_ms     of the last one
//       56     8  epoch            of the last frame
//       64     8  durable_mark     everything before it is durable
//       72     8  end_offset       behind the last frame
//       80     4  index_entries
//       84        index_entries x { sequence 8, offset 8, time_ms 8 }: a frame now and then, rising
//
// The footer begins at end_offset and fills the file to its end:
//        0     8  magic            "norifoot"
//        8        the summary, then zeros
//   last 20    8  footer_bytes     so that it is found from the file's end
//              8  magic            "norifoot"
//              4  crc32c           of the footer before it, seeded with its place
//
// It is written once the segment's frames are durable and the next segment's header and name are
// too: a valid footer is evidence of both, and such a segment is not scanned at open.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "nori/position.h"

namespace nori {

struct IndexEntry {
  Sequence sequence = 0;
  std::uint64_t offset = 0;
  std::uint64_t time_ms = 0;
  friend bool operator==(const IndexEntry&, const IndexEntry&) = default;
};

struct SegmentSummary {
  std::uint64_t frames = 0;
  std::uint64_t records = 0;
  std::uint64_t padding_bytes = 0;
  Sequence first_sequence = 0;
  Sequence end_sequence = 0;
  std::uint64_t first_time_ms = 0;
  std::uint64_t last_time_ms = 0;
  std::uint64_t epoch = 0;
  Sequence durable_mark = 0;
  std::uint64_t end_offset = 0;
  std::vector<IndexEntry> index;
  friend bool operator==(const SegmentSummary&, const SegmentSummary&) = default;
};

inline constexpr std::size_t kSummaryBytes = 84;
inline constexpr std::size_t kIndexEntryBytes = 24;
inline constexpr std::size_t kFooterTrailerBytes = 20;
/// A frame is indexed once this many bytes lie behind the one indexed before.
inline constexpr std::uint64_t kIndexStrideBytes = 256 * 1024;

/// Leaves out index entries, evenly, until the summary's bytes are at most `bytes_max`.
void thin_index(SegmentSummary& summary, std::uint64_t bytes_max);

/// The summary's bytes.
[[nodiscard]] std::string encode_summary(const SegmentSummary& summary);
/// The summary at the front of `bytes`; nothing if it is cut short or its fields contradict each
/// other.
[[nodiscard]] std::optional<SegmentSummary> decode_summary(ByteView bytes);

/// The footer's bytes, a multiple of `block_bytes`, for a segment with this seed.
[[nodiscard]] std::string encode_footer(const SegmentSummary& summary, std::uint32_t segment_seed,
                                        std::uint64_t block_bytes);
/// How long the footer is, told by the last kFooterTrailerBytes of a file; nothing if they are no
/// footer's.
[[nodiscard]] std::optional<std::uint64_t> decode_footer_bytes(ByteView trailer) noexcept;
/// The whole footer. `offset` is where it begins.
[[nodiscard]] std::optional<SegmentSummary> decode_footer(ByteView footer,
                                                          std::uint32_t segment_seed,
                                                          std::uint64_t offset);

}  // namespace nori
