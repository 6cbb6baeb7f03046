#include "log/tail_evidence.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/try.h"
#include "segment/segment_reader.h"

namespace nori {
namespace {

constexpr std::uint64_t kChunkBytes = 128 * 1024;

// What a valid header proves about the chain's next frame, in words; empty if nothing.
//
//   row  found                                       proves
//   E1   a mark beyond the chain's next sequence     its record had been durable
//   E2   an epoch later than the chain's             all before its opening had been durable
//   E3   later frames, footers, segments, same       nothing: unsynced blocks land in any order
//        epoch
std::string evidence_in(const FrameChain& chain, Sequence mark, std::uint64_t epoch,
                        std::string_view where) {
  if (mark > chain.next_sequence) {
    return fmt::format("{} says that everything before record {} was durable", where, mark);
  }
  if (epoch >> 40 > chain.epoch >> 40) {
    return fmt::format("{} belongs to a later opening (epoch {}, not {})", where, epoch >> 40,
                       chain.epoch >> 40);
  }
  return {};
}

// Whether a frame header can begin here: its kind stands in this byte. Passes 7 of 16 values, never
// a zero.
bool kind_byte_fits(std::byte byte) noexcept {
  const auto kind = std::to_integer<unsigned>(byte) >> 4;
  return kind >= 1 && kind <= 7;
}

// Whether `offset`, where the chain ends, holds an opening frame that was cut short. It is durable
// before anything else of its epoch is written: torn itself, it says that nothing is missing.
Result<bool> is_torn_opening(SegmentReader& segment, std::uint32_t seed, std::uint64_t offset,
                             const FrameChain& chain) {
  const auto header = decode_frame_header(NORI_TRY(segment.view(offset, kFrameHeaderBytes)),
                                          place_seed(seed, offset));
  if (!header || header->kind != FrameKind::opening ||
      header->first_sequence != chain.next_sequence) {
    return false;
  }
  const auto frame = NORI_TRY(segment.view(offset, header->frame_bytes()));
  return frame.size() != header->frame_bytes() ||
         !payload_matches(*header, frame.subspan(kFrameHeaderBytes));
}

// Headers at every offset from `from` on.
Result<TailFindings> examine_segment(SegmentReader& segment, const LogId& log_id,
                                     std::uint64_t from, const FrameChain& chain) {
  TailFindings findings;
  const auto generation = segment.header_fits() ? segment.header()->generation : 0;
  const auto seed = segment_seed(log_id, generation, segment.segment_id());
  const auto file_bytes = NORI_TRY(segment.size());
  const bool opening_is_torn = NORI_TRY(is_torn_opening(segment, seed, from, chain));
  std::uint64_t not_blank_end = from;
  std::uint64_t ghost_end = from;
  for (auto chunk = from; chunk < file_bytes; chunk += kChunkBytes) {
    const auto bytes = NORI_TRY(segment.view(chunk, kChunkBytes + kFrameHeaderBytes - 1));
    const auto chunk_bytes = std::min<std::uint64_t>(bytes.size(), kChunkBytes);
    for (std::uint64_t i = 0; i < chunk_bytes; ++i) {
      const auto offset = chunk + i;
      const auto not_blank_before = not_blank_end;
      if (bytes[i] != std::byte{0} && offset >= ghost_end) {
        not_blank_end = offset + 1;
      }
      if (i + kFrameHeaderBytes > bytes.size() || !kind_byte_fits(bytes[i + 15])) {
        continue;
      }
      const auto header = decode_frame_header(bytes.subspan(i), place_seed(seed, offset));
      if (!header || (offset == from && opening_is_torn)) {
        continue;
      }
      findings.evidence =
          evidence_in(chain, header->durable_mark, header->epoch,
                      fmt::format("the frame at {}:{}", segment.segment_id(), offset));
      if (!findings.evidence.empty()) {
        findings.bytes_not_blank = file_bytes - from;
        return findings;
      }
      if (header->epoch != chain.epoch) {
        ghost_end = std::max(ghost_end, offset + header->frame_bytes());
        not_blank_end = not_blank_before;
      }
    }
  }
  findings.bytes_not_blank = not_blank_end - from;
  return findings;
}

Result<void> examine_ring(RingView& ring, const LogId& log_id, const FramePlaceInLog& end,
                          const FrameChain& chain, const std::vector<SegmentHeader>& headers_behind,
                          TailFindings& findings) {
  if (const auto mark = NORI_TRY(ring.mark()); mark) {
    findings.evidence = evidence_in(chain, mark->durable_mark, 0, "the ring's header");
    if (!findings.evidence.empty()) {
      return {};
    }
  }
  // What the ring holds can be of the end's segment, or of one behind it.
  struct Candidate {
    std::uint32_t seed;
    std::uint64_t ring_base;
  };
  std::vector<Candidate> candidates{
      {.seed = segment_seed(log_id, 0, end.segment_id), .ring_base = end.ring_base}};
  for (const auto& header : headers_behind) {
    candidates.push_back({.seed = header.seed(), .ring_base = header.ring_base});
  }
  const auto ring_bytes = ring.ring_bytes();
  for (std::uint64_t chunk = 0; chunk < ring_bytes; chunk += kChunkBytes) {
    const auto bytes = NORI_TRY(ring.view(
        end.ring_address() + chunk, std::min(kChunkBytes + kFrameHeaderBytes - 1, ring_bytes)));
    for (std::uint64_t i = 0; i < kChunkBytes && i + kFrameHeaderBytes <= bytes.size(); ++i) {
      if (!kind_byte_fits(bytes[i + 15])) {
        continue;
      }
      const auto address = end.ring_address() + chunk + i;
      for (const auto& [seed, ring_base] : candidates) {
        const auto header =
            decode_frame_header(bytes.subspan(i), place_seed(seed, address - ring_base));
        if (!header) {
          continue;
        }
        findings.evidence =
            evidence_in(chain, header->durable_mark, header->epoch,
                        fmt::format("the ring's frame of record {}", header->first_sequence));
        if (!findings.evidence.empty()) {
          return {};
        }
        const bool is_in_segment = seed == candidates.front().seed &&
                                   address < end.ring_address() + findings.bytes_not_blank;
        if (header->kind == FrameKind::records && header->epoch == chain.epoch && !is_in_segment) {
          findings.bytes_in_ring += header->frame_bytes();
        }
      }
    }
  }
  return {};
}

// E7: a footer is written once all frames before it are durable.
Result<std::string> evidence_in_own_footer(SegmentReader& segment, const LogId& log_id,
                                           std::uint64_t offset) {
  if (!segment.header_fits() || segment.header()->log_id != log_id) {
    return std::string{};
  }
  const auto footer = NORI_TRY(segment.footer());
  if (!footer || offset >= footer->end_offset) {
    return std::string{};
  }
  return fmt::format("the footer of {} says that all before it was durable", segment.name().name());
}

// E4: a footer is written once the next segment's header and name are durable. If the one before
// the end has a footer and the end's segment does not even begin, that is no crash.
Result<std::string> evidence_in_footer_before(io::Directory& directory, const LogId& log_id,
                                              FrameWalker& walker) {
  const auto& place = walker.place();
  if (place.segment_id == 0) {
    return std::string{};
  }
  if (auto* segment = walker.segment(); segment != nullptr && segment->header_fits()) {
    const auto& header = *segment->header();
    const bool continues = header.first_sequence == walker.chain().next_sequence &&
                           header.epoch == walker.chain().epoch;
    if (header.log_id == log_id && (place.offset != header.first_offset || continues)) {
      return std::string{};
    }
  }
  const auto name_before = NORI_TRY(list_log(directory)).file_of(place.segment_id - 1);
  if (!name_before) {
    return std::string{};
  }
  const auto before = NORI_TRY(SegmentReader::open_if_there(directory, *name_before));
  if (before == nullptr || !before->header_fits() || before->header()->log_id != log_id ||
      !NORI_TRY(before->footer())) {
    return std::string{};
  }
  return fmt::format("the footer of {} says that this segment was there", name_before->name());
}

// E5: no crash puts a file of another log here, and it is not ours to cut.
std::string evidence_of_another_log(SegmentReader& segment, const LogId& log_id) {
  if (!segment.header() || segment.header()->log_id == log_id) {
    return {};
  }
  return fmt::format("{} is of another log", segment.name().name());
}

}  // namespace

Result<TailFindings> examine_tail(io::Directory& directory, const LogId& log_id,
                                  FrameWalker& walker, Sequence mark,
                                  const std::vector<SegmentFile>& segments_behind) {
  const auto& chain = walker.chain();
  TailFindings findings;
  if (mark > chain.next_sequence) {
    findings.evidence =
        fmt::format("a frame before it says that everything before record {} was durable", mark);
  }
  if (auto* segment = walker.segment(); segment != nullptr) {
    segment->drop_window();
    const auto in_segment =
        NORI_TRY(examine_segment(*segment, log_id, walker.place().offset, chain));
    findings.bytes_not_blank = in_segment.bytes_not_blank;
    if (findings.evidence.empty()) {
      findings.evidence = in_segment.evidence;
    }
    if (findings.evidence.empty()) {
      findings.evidence = NORI_TRY(evidence_in_own_footer(*segment, log_id, walker.place().offset));
    }
    if (findings.evidence.empty()) {
      findings.evidence = evidence_of_another_log(*segment, log_id);
    }
    if (findings.evidence.empty() && segment->header().has_value()) {
      findings.evidence =
          evidence_in(chain, segment->header()->durable_mark, segment->header()->epoch,
                      fmt::format("the header in {}", segment->name().name()));
    }
  }
  if (findings.evidence.empty()) {
    findings.evidence = NORI_TRY(evidence_in_footer_before(directory, log_id, walker));
  }
  std::vector<SegmentHeader> headers_behind;
  for (const auto& file : segments_behind) {
    if (!findings.evidence.empty()) {
      return findings;
    }
    const auto segment = NORI_TRY(SegmentReader::open_if_there(directory, file));
    if (segment == nullptr) {
      continue;
    }
    findings.evidence = evidence_of_another_log(*segment, log_id);
    if (const auto& header = segment->header(); header && header->log_id == log_id) {
      // E6: this file got its name once all frames before it were durable, the rotation frame too.
      if (header->durable_mark >= chain.next_sequence) {
        findings.evidence =
            fmt::format("the header in {} says that all before it was durable", file.name());
      } else {
        findings.evidence = evidence_in(chain, header->durable_mark, header->epoch,
                                        fmt::format("the header in {}", file.name()));
      }
      if (findings.evidence.empty() && segment->header_fits()) {
        headers_behind.push_back(*header);
        if (const auto footer = NORI_TRY(segment->footer()); footer) {
          findings.evidence = evidence_in(chain, footer->durable_mark, footer->epoch,
                                          fmt::format("the footer of {}", file.name()));
        }
      }
    }
    if (findings.evidence.empty()) {
      auto in_segment = NORI_TRY(examine_segment(*segment, log_id, 0, chain));
      findings.evidence = std::move(in_segment.evidence);
      findings.bytes_in_segments_behind += in_segment.bytes_not_blank;
    }
  }
  if (findings.evidence.empty() && walker.ring() != nullptr) {
    NORI_TRY(examine_ring(*walker.ring(), log_id, walker.place(), chain, headers_behind, findings));
  }
  return findings;
}

}  // namespace nori
