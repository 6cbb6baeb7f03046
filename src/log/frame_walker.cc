#include "log/frame_walker.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "base/make_error.h"
#include "base/try.h"
#include "format/frame_records.h"
#include "log/log_listing.h"

namespace nori {

void FrameWalker::seek(const WalkPoint& point) {
  place_ = point.place;
  chain_ = point.chain;
  seed_ = segment_seed(log_id_, place_.generation, place_.segment_id);
  at_begin_ = place_.offset == 0;
  in_ring_ = false;
  in_segment_ = false;
}

Result<void> FrameWalker::refresh_ring() {
  if (ring_ != nullptr && ring_->is_current(*directory_)) {
    return {};
  }
  ring_note_.clear();
  auto ring = RingView::open(*directory_, log_id_);
  if (!ring && ring.error().code == ErrorCode::permission &&
      ring_access_ == RingAccess::if_permitted) {
    ring_.reset();
    ring_note_ = unreadable_ring_note(ring.error());
    return {};
  }
  ring_ = NORI_TRY(std::move(ring));
  return {};
}

void FrameWalker::set_segments(const std::vector<SegmentFile>& segments) {
  compacted_.clear();
  std::ranges::copy_if(segments, std::back_inserter(compacted_), &SegmentFile::is_compacted);
}

SegmentFile FrameWalker::file_of(std::uint64_t segment_id) const {
  const auto found = std::ranges::find_if(
      compacted_, [&](const SegmentFile& file) { return file.covers(segment_id); });
  return found != compacted_.end() ? *found : SegmentFile(segment_id);
}

// Leaves segment_ empty, and a stop reason, where there is no file that begins with this segment.
Result<void> FrameWalker::open_segment() {
  segment_.reset();
  for (int attempt = 0; attempt < 2 && segment_ == nullptr; ++attempt) {
    if (attempt == 1) {
      set_segments(NORI_TRY(list_log(*directory_)).segments);
    }
    if (const auto file = file_of(place_.segment_id); file.first == place_.segment_id) {
      segment_ = NORI_TRY(SegmentReader::open_if_there(*directory_, file));
    }
    if (segment_ != nullptr && !at_begin_ && segment_->header_fits() &&
        segment_->header()->generation != place_.generation) {
      segment_.reset();  // another file than the one that the offset is in
    }
  }
  if (segment_ == nullptr) {
    stop_reason_ = fmt::format("{} is missing", segment_name(place_.segment_id));
  }
  return {};
}

Result<std::optional<WalkedFrame>> FrameWalker::next_in_segment() {
  if (segment() == nullptr) {
    NORI_TRY(open_segment());
    if (segment_ == nullptr) {
      return std::nullopt;
    }
  }
  if (!segment_->header_fits() || segment_->header()->log_id != log_id_) {
    const auto& header = segment_->header();
    if (!header && header.error().fault == HeaderFault::unsupported_version) {
      return make_error(ErrorCode::unsupported_version,
                        "{}/{}: format version {} is newer than this library's {}; use a newer one",
                        directory_->path().string(), segment_name(place_.segment_id),
                        header.error().version, kFormatVersion);
    }
    stop_reason_ = header ? "the file holds another segment's header" : "bad segment header";
    return std::nullopt;
  }
  const auto& header_of_segment = *segment_->header();
  seed_ = header_of_segment.seed();
  place_.ring_base = header_of_segment.ring_base;
  place_.generation = header_of_segment.generation;
  if (place_.offset == 0 || (at_begin_ && header_of_segment.is_compacted())) {
    place_.offset = header_of_segment.first_offset;
  }
  if (place_.offset == header_of_segment.first_offset &&
      (header_of_segment.first_sequence != chain_.next_sequence ||
       header_of_segment.epoch != chain_.epoch)) {
    stop_reason_ = "the segment does not continue the one before it";
    return std::nullopt;
  }
  const auto header_bytes = NORI_TRY(segment_->view(place_.offset, kFrameHeaderBytes));
  const auto header = decode_frame_header(header_bytes, place_seed(seed_, place_.offset));
  if (!header) {
    stop_reason_ = "no valid frame header";
    return std::nullopt;
  }
  if (header_of_segment.is_compacted() ? !chain_.may_be_continued_in_compacted(*header)
                                       : !chain_.may_be_continued_by(*header)) {
    stop_reason_ = "a frame of another life of the log";
    return std::nullopt;
  }
  const auto bytes = NORI_TRY(segment_->view(place_.offset, header->frame_bytes()));
  if (bytes.size() != header->frame_bytes() ||
      !payload_matches(*header, bytes.subspan(kFrameHeaderBytes))) {
    stop_reason_ = "the frame's payload does not match its checksum";
    return std::nullopt;
  }
  const auto payload = bytes.subspan(kFrameHeaderBytes);
  return WalkedFrame{.place = place_,
                     .header = *header,
                     .payload = payload,
                     .from_ring = false,
                     .records = FrameRecords(*header, payload).count()};
}

Result<std::optional<WalkedFrame>> FrameWalker::next_in_ring() {
  if (ring_ == nullptr || place_.offset == 0 ||
      (segment() != nullptr && segment_->name().is_compacted)) {
    return std::nullopt;
  }
  const auto header = NORI_TRY(ring_->header_at(seed_, place_.offset, place_.ring_address()));
  if (!header || !chain_.may_be_continued_by(*header)) {
    return std::nullopt;
  }
  const auto payload = NORI_TRY(ring_->payload_at(*header, place_.ring_address()));
  if (!payload) {
    return std::nullopt;
  }
  return WalkedFrame{.place = place_,
                     .header = *header,
                     .payload = *payload,
                     .from_ring = true,
                     .records = header->record_count};
}

const WalkedFrame* FrameWalker::next_at_hand() noexcept {
  if (!in_segment_) {
    return nullptr;
  }
  const auto bytes = segment_->at_hand(place_.offset);
  // Decoded where it stays: copying it would wait for its stores.
  auto& header = frame_.header;
  if (!decode_frame_header(bytes, place_seed(seed_, place_.offset), header) ||
      (header.kind != FrameKind::records && header.kind != FrameKind::padding) ||
      header.first_sequence != chain_.next_sequence || header.epoch != chain_.epoch ||
      bytes.size() < header.frame_bytes()) {
    return nullptr;
  }
  frame_.payload = bytes.subspan(kFrameHeaderBytes, header.payload_bytes);
  if (!payload_matches(header, frame_.payload)) {
    return nullptr;
  }
  frame_.place = place_;
  frame_.from_ring = false;
  frame_.records = frame_.header.record_count;
  chain_.advance(header);
  place_.offset += header.frame_bytes();
  return &frame_;
}

Result<std::optional<WalkedFrame>> FrameWalker::next() {
  if (const auto* const frame = next_at_hand(); frame != nullptr) {
    return *frame;
  }
  if (in_ring_) {
    // What the ring's window holds is as good as when it was read: frames do not change.
    auto frame = NORI_TRY(next_in_ring());
    if (frame && continues(*frame)) {
      advance(*frame);
      return frame;
    }
  }
  // Segment, ring, segment again: what is in the ring at its turn is found there, and what has left
  // it by then is in the segment. The second look at the ring is for one that was replaced.
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto frame = NORI_TRY(next_in_segment());
    if (!frame) {
      NORI_TRY(refresh_ring());
      if (ring_ != nullptr) {
        ring_->drop_window();
      }
      frame = NORI_TRY(next_in_ring());
    }
    if (frame) {
      if (!continues(*frame)) {
        stop_reason_ = frame->header.kind == FrameKind::rotation
                           ? "a rotation frame that does not lead to the next segment"
                           : "an opening frame of another life of the log";
        return std::nullopt;
      }
      if (frame->header.kind == FrameKind::gap) {
        return make_error(
            ErrorCode::unsupported_version,
            "{}/{} at {}: a gap frame, which this version cannot read; use a newer one",
            directory_->path().string(), segment_name(place_.segment_id), place_.offset);
      }
      advance(*frame);
      return frame;
    }
    if (segment() != nullptr) {
      segment_->drop_window();
    }
  }
  return std::nullopt;
}

bool FrameWalker::continues(const WalkedFrame& frame) {
  if (frame.header.kind == FrameKind::rotation) {
    const auto rotation = decode_rotation(frame.payload);
    return rotation && rotation->next_segment_id == next_segment_id();
  }
  // Of a compacted frame the header has said all.
  return frame.header.kind == FrameKind::compacted ||
         chain_.continued_by(frame.header, frame.payload);
}

void FrameWalker::advance(const WalkedFrame& frame) {
  chain_.advance(frame.header);
  at_begin_ = false;
  in_ring_ = frame.from_ring;
  in_segment_ = !frame.from_ring;
  place_.offset = frame.end_offset();
  if (frame.header.kind == FrameKind::rotation) {
    // segment_ stays open until the next step, for the frame's views. The next one may have a file
    // of its own although this frame came from the ring.
    in_ring_ = false;
    in_segment_ = false;
    const auto rotation =
        decode_rotation(frame.payload)
            .value_or(RotationPayload{.next_segment_id = place_.segment_id + 1, .next_offset = 0});
    place_ = {.segment_id = rotation.next_segment_id,
              .offset = rotation.next_offset,
              .ring_base = rotation.next_ring_base};
    seed_ = segment_seed(log_id_, 0, place_.segment_id);
    at_begin_ = true;
  }
}

}  // namespace nori
