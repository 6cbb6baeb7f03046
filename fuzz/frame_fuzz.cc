// Every structure of format/ from any bytes: frames, headers and footers of segments, rings.
//
//   input   1  which structure, in the lower bits; bit 7: make its checksums match
//           4  the seed of its place
//           .. the structure
//
// What is decoded encodes to the same bytes, and then decodes to the same.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/little_endian.h"
#include "format/frame.h"
#include "format/ring_header.h"
#include "format/segment_footer.h"
#include "format/segment_header.h"
#include "fuzz/input.h"
#include "fuzz/require.h"
#include "fuzz/signing.h"

namespace nori::fuzz {
namespace {

bool equal(ByteView a, ByteView b) { return std::ranges::equal(a, b); }

bool equal(const FrameHeader& a, const FrameHeader& b) {
  return a.kind == b.kind && a.record_count == b.record_count &&
         a.payload_bytes == b.payload_bytes && a.payload_crc32c == b.payload_crc32c &&
         a.first_sequence == b.first_sequence && a.epoch == b.epoch && a.time_ms == b.time_ms &&
         a.durable_mark == b.durable_mark;
}

bool equal(const SegmentHeader& a, const SegmentHeader& b) {
  return a.generation == b.generation && a.log_id == b.log_id &&
         a.first_segment == b.first_segment && a.last_segment == b.last_segment &&
         a.first_sequence == b.first_sequence && a.epoch == b.epoch &&
         a.durable_mark == b.durable_mark && a.created_ms == b.created_ms &&
         a.first_offset == b.first_offset && a.ring_base == b.ring_base;
}

// Whether a frame is what `chain` goes on with, and what becomes of the chain.
void check_chain(FrameChain chain, const FrameHeader& header, ByteView payload) {
  if (!chain.continued_by(header, payload)) {
    return;
  }
  require(chain.may_be_continued_by(header), "a frame continues that by its header cannot");
  require(header.first_sequence == chain.next_sequence, "a hole in the sequences");
  const bool is_opening = header.kind == FrameKind::opening;
  require(is_opening ? header.epoch >> 40 > chain.epoch >> 40 : header.epoch == chain.epoch,
          "an epoch that does not follow");
  const auto time_before = chain.time_ms;
  chain.advance(header);
  require(chain.next_sequence == header.end_sequence() && chain.epoch == header.epoch &&
              chain.time_ms >= time_before,
          "the chain does not stand behind its frame");
  require(!is_opening || !chain.may_be_continued_by(header), "an opening twice");
}

void check_frame(ByteView bytes, std::uint32_t seed) {
  const auto header = decode_frame_header(bytes, seed);
  if (!header) {
    return;
  }
  require(may_be_frame_header(bytes.data()), "a search would pass over a valid header");
  // Of a compacted one it is the sequences that it covers.
  require((header->kind == FrameKind::records || header->kind == FrameKind::compacted) ==
              (header->record_count != 0),
          "records, or none, in a frame of the other kind");
  require(header->durable_mark <= header->first_sequence, "a mark beyond its frame");
  std::array<std::byte, kFrameHeaderBytes> encoded;
  encode_frame_header(*header, seed, encoded.data());
  require(equal(encoded, bytes.first(kFrameHeaderBytes)), "it encodes to other bytes");
  const auto again = decode_frame_header(encoded, seed);
  require(again && equal(*again, *header), "encoded, it decodes to another");
  require(!decode_frame_header(bytes.first(kFrameHeaderBytes - 1), seed), "a header cut short");
  require(!decode_frame_header(bytes, seed + 1), "valid at another place");

  const auto behind = bytes.subspan(kFrameHeaderBytes);
  const auto payload = behind.first(std::min<std::uint64_t>(header->payload_bytes, behind.size()));
  const bool matches = payload_matches(*header, payload);
  require(!matches || payload.size() == header->payload_bytes, "a payload cut short");
  check_chain({.next_sequence = header->first_sequence, .epoch = header->epoch}, *header, payload);
  if (const auto opening = decode_opening(payload)) {
    check_chain({.next_sequence = header->first_sequence, .epoch = opening->previous_epoch},
                *header, payload);
    std::array<std::byte, kOpeningPayloadBytes> stored;
    encode_opening(*opening, stored.data());
    require(equal(stored, payload.first(stored.size())), "an opening encodes to other bytes");
  }
  if (const auto rotation = decode_rotation(payload)) {
    require(is_first_offset(rotation->next_offset), "a segment whose first frame cannot be");
    std::array<std::byte, kRotationPayloadBytes> stored;
    encode_rotation(*rotation, stored.data());
    require(equal(stored, payload.first(stored.size())), "a rotation encodes to other bytes");
  }
}

void check_segment_header(ByteView bytes) {
  const auto header = decode_segment_header(bytes);
  if (!header) {
    const auto fault = header.error().fault;
    require((fault == HeaderFault::too_short) == (bytes.size() < kSegmentHeaderBytes),
            "too short, or not");
    require(fault != HeaderFault::unsupported_version || header.error().version != kFormatVersion,
            "its own version is unsupported");
    return;
  }
  require(is_first_offset(header->first_offset), "a first frame that cannot be there");
  std::array<std::byte, kSegmentHeaderBytes> encoded;
  encode_segment_header(*header, encoded.data());
  const auto again = decode_segment_header(encoded);
  require(again && equal(*again, *header), "encoded, it decodes to another");
  // Nobody looks at the zeros from byte 96 on.
  require(equal(ByteView(encoded).first(96), bytes.first(96)), "it encodes to other bytes");
}

void check_summary(const SegmentSummary& summary, ByteView bytes) {
  const auto encoded = encode_summary(summary);
  require(
      encoded.size() <= bytes.size() && equal(as_byte_view(encoded), bytes.first(encoded.size())),
      "it encodes to other bytes");
  require(summary.first_sequence <= summary.end_sequence, "it ends before it begins");
  for (std::size_t i = 0; i < summary.index.size(); ++i) {
    require(summary.index[i].offset < summary.end_offset &&
                (i == 0 || summary.index[i - 1].offset < summary.index[i].offset),
            "an index whose offsets do not rise");
  }
  for (const std::uint64_t bytes_max : {kSummaryBytes, kSummaryBytes + 3 * kIndexEntryBytes}) {
    auto thinned = summary;
    thin_index(thinned, bytes_max);
    require(encode_summary(thinned).size() <= bytes_max, "an index that was not thinned");
    require(std::ranges::includes(summary.index, thinned.index, {}, &IndexEntry::offset,
                                  &IndexEntry::offset),
            "a thinned index with other entries");
  }
}

void check_footer(ByteView bytes, std::uint32_t seed) {
  if (const auto summary = decode_summary(bytes)) {
    check_summary(*summary, bytes);
    auto footer = encode_footer(*summary, seed, 4096);
    const auto length = decode_footer_bytes(as_byte_view(footer).last(kFooterTrailerBytes));
    require(length == footer.size() && footer.size() % 4096 == 0, "a footer's own length");
    require(decode_footer(as_byte_view(footer), seed, summary->end_offset) == summary,
            "encoded, it decodes to another");
    require(!decode_footer(as_byte_view(footer), seed, summary->end_offset + 1),
            "valid at another place");
  }
  if (bytes.size() < kFooterTrailerBytes) {
    return;
  }
  const auto length = decode_footer_bytes(bytes.last(kFooterTrailerBytes));
  if (!length || *length > bytes.size()) {
    return;
  }
  const auto offset = bytes.size() - *length;
  const auto summary = decode_footer(bytes.last(*length), seed, offset);
  require(!summary || summary->end_offset == offset, "a footer that tells of another place");
}

void check_ring(ByteView bytes) {
  const auto header = decode_ring_header(bytes);
  if (!header) {
    return;
  }
  std::array<std::byte, kRingHeaderBytes> encoded;
  encode_ring_header(*header, encoded.data());
  const auto again = decode_ring_header(encoded);
  require(again && again->log_id == header->log_id && again->ring_bytes == header->ring_bytes,
          "encoded, it decodes to another");
  const auto mark = decode_ring_mark(bytes, header->log_id);
  if (!mark) {
    return;
  }
  std::vector<std::byte> ring(bytes.begin(), bytes.end());
  ring.resize(std::max(ring.size(), kRingMarkOffset + 2 * kRingMarkStride));
  encode_ring_mark(*mark, header->log_id, 0, ring);
  encode_ring_mark(*mark, header->log_id, 1, ring);
  const auto mark_again = decode_ring_mark(ring, header->log_id);
  require(mark_again && mark_again->durable_mark == mark->durable_mark &&
              mark_again->segment_id == mark->segment_id,
          "a mark that encodes to another");
  ring[kRingMarkOffset] ^= std::byte{1};
  ring[kRingMarkOffset + kRingMarkStride] ^= std::byte{1};
  require(!decode_ring_mark(ring, header->log_id), "an altered mark");
}

// A ring's marks stand on a page of their own: the input has them behind its header.
std::vector<std::byte> spread_ring(ByteView bytes) {
  constexpr std::size_t kSlotBytes = kRingMarkBytes;
  std::vector<std::byte> ring(kRingMarkOffset + 2 * kRingMarkStride);
  const auto header = bytes.first(std::min(bytes.size(), kRingHeaderBytes));
  std::ranges::copy(header, ring.begin());
  auto marks = bytes.subspan(header.size());
  for (std::size_t slot = 0; slot < 2; ++slot) {
    const auto mark = marks.first(std::min(marks.size(), kSlotBytes));
    std::ranges::copy(
        mark, ring.begin() + static_cast<std::ptrdiff_t>(kRingMarkOffset + slot * kRingMarkStride));
    marks = marks.subspan(mark.size());
  }
  return ring;
}

void check(Input input) {
  const auto mode = input.take<std::uint8_t>();
  const auto seed = input.take<std::uint32_t>();
  const bool is_signed = (mode & 0x80) != 0;
  const auto rest = input.rest();
  std::vector<std::byte> bytes(rest.begin(), rest.end());
  switch (mode & 0x03) {
    case 0:
      if (is_signed) {
        sign_frame(bytes, seed);
      }
      check_frame(bytes, seed);
      break;
    case 1:
      if (is_signed) {
        sign_segment_header(bytes);
      }
      check_segment_header(bytes);
      break;
    case 2:
      if (is_signed) {
        sign_footer(bytes, seed);
      }
      check_footer(bytes, seed);
      break;
    default: {
      auto ring = spread_ring(bytes);
      if (is_signed) {
        sign_ring(ring);
      }
      check_ring(ring);
    }
  }
}

}  // namespace
}  // namespace nori::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nori::fuzz::check(nori::fuzz::Input(data, size));
  return 0;
}
