// Counts a segment's frames as they are placed or read.

#pragma once

#include <algorithm>

#include "format/frame.h"
#include "format/segment_footer.h"

namespace nori {

class SummaryBuilder {
 public:
  SummaryBuilder() = default;
  /// Begins a segment whose first record will have this sequence.
  explicit SummaryBuilder(Sequence first_sequence) {
    summary_.first_sequence = first_sequence;
    summary_.end_sequence = first_sequence;
  }
  /// Goes on behind what `summary` counts.
  explicit SummaryBuilder(SegmentSummary summary) : summary_(std::move(summary)) {
    indexed_offset_ = summary_.index.empty() ? 0 : summary_.index.back().offset;
  }

  // Always inlined: `header` is then never in memory, when a frame is appended.
  [[gnu::always_inline]] void add(const FrameHeader& header, std::uint64_t offset) {
    add(header, offset, header.record_count);
  }
  /// A frame of which so many records are left.
  [[gnu::always_inline]] void add(const FrameHeader& header, std::uint64_t offset,
                                  std::uint64_t records) {
    if (summary_.frames++ == 0) {
      summary_.first_time_ms = header.time_ms;
    }
    summary_.records += records;
    if (header.kind != FrameKind::records && header.kind != FrameKind::compacted) {
      summary_.padding_bytes += header.frame_bytes();
    } else if (offset >= indexed_offset_ + kIndexStrideBytes) {
      summary_.index.push_back(
          {.sequence = header.first_sequence, .offset = offset, .time_ms = header.time_ms});
      indexed_offset_ = offset;
    }
    summary_.end_sequence = header.end_sequence();
    summary_.last_time_ms = header.time_ms;
    summary_.epoch = header.epoch;
    summary_.durable_mark = std::max(summary_.durable_mark, header.durable_mark);
    summary_.end_offset = offset + header.frame_bytes();
  }

  [[nodiscard]] const SegmentSummary& summary() const noexcept { return summary_; }

 private:
  SegmentSummary summary_;
  std::uint64_t indexed_offset_ = 0;
};

}  // namespace nori
