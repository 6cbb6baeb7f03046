#include "log/segment_range.h"

#include <fmt/format.h>

#include <cerrno>

#include "base/make_error.h"
#include "base/try.h"
#include "segment/segment_reader.h"

namespace nori {
namespace {

std::vector<SegmentFile> names_of(const std::vector<SealedFile>& files) {
  std::vector<SegmentFile> names;
  names.reserve(files.size());
  for (const auto& file : files) {
    names.push_back(file.name);
  }
  return names;
}

}  // namespace

Result<std::optional<SealedFile>> read_sealed_file(io::Directory& directory, const LogId& log_id,
                                                   const SegmentFile& name) {
  const auto segment = NORI_TRY(SegmentReader::open(directory, name));
  if (!segment->header_fits() || segment->header()->log_id != log_id) {
    return std::nullopt;
  }
  auto summary = NORI_TRY(segment->footer());
  if (!summary) {
    return std::nullopt;
  }
  return SealedFile{.name = name,
                    .header = *segment->header(),
                    .summary = *std::move(summary),
                    .bytes = NORI_TRY(segment->size())};
}

SegmentRangeReader::SegmentRangeReader(io::Directory& directory, const LogId& log_id,
                                       const std::vector<SealedFile>& files, RangeEnd end)
    : directory_(directory),
      files_(files),
      end_(end),
      walker_(directory, log_id, RingAccess::if_permitted, names_of(files)) {
  const auto& first = files.front().header;
  walker_.seek({.place = {.segment_id = first.first_segment,
                          .offset = first.first_offset,
                          .ring_base = first.ring_base,
                          .generation = first.generation},
                .chain = {.next_sequence = first.first_sequence,
                          .epoch = first.epoch,
                          .time_ms = first.created_ms}});
}

Result<const RangeRecord*> SegmentRangeReader::next() {
  for (;;) {
    if (records_.next(record_.record)) {
      record_.index = records_read_++;
      return &record_;
    }
    const auto segment_id = walker_.place().segment_id;
    if (!records_.is_done()) {
      return make_error(ErrorCode::damaged, "{}: the frame before offset {} is malformed",
                        (directory_.path() / files_[file_].name.name()).string(),
                        walker_.place().offset);
    }
    if (segment_id > files_.back().name.last && end_ == RangeEnd::last_file) {
      return nullptr;
    }
    while (segment_id > files_[file_].name.last && file_ + 1 < files_.size()) {
      ++file_;
    }
    std::optional<WalkedFrame> walked;
    const auto* frame = walker_.next_at_hand();
    if (frame == nullptr) {
      const auto offset = walker_.place().offset;
      walked = NORI_TRY(walker_.next());
      if (!walked && end_ == RangeEnd::log_end && segment_id >= files_.back().name.first) {
        return nullptr;
      }
      if (!walked) {
        auto error = make_error(walker_.segment_is_missing() ? ErrorCode::io : ErrorCode::damaged,
                                "{} at offset {}: {}; nothing was compacted here",
                                (directory_.path() / files_[file_].name.name()).string(), offset,
                                walker_.stop_reason());
        error.error().system_errno = walker_.segment_is_missing() ? ENOENT : 0;
        return error;
      }
      frame = &*walked;
    }
    bytes_read_ += frame->header.frame_bytes();
    record_.epoch = frame->header.epoch;
    record_.file = file_;
    if (frame->header.kind == FrameKind::records || frame->header.kind == FrameKind::compacted) {
      records_ = FrameRecords(frame->header, frame->payload);
    } else if (frame->header.kind == FrameKind::rotation) {
      rotation_ = decode_rotation(frame->payload).value_or(RotationPayload{});
    }
  }
}

}  // namespace nori
