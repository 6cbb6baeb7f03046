#include "log/seek.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "base/make_error.h"
#include "base/try.h"
#include "segment/segment_name.h"

namespace nori {
namespace {

constexpr int kAttemptsMax = 20;
constexpr std::uint64_t kChunkBytes = 128 * kKiB;

WalkPoint segment_begin(const SegmentHeader& header) {
  return {.place = {.segment_id = header.first_segment,
                    .offset = header.first_offset,
                    .ring_base = header.ring_base,
                    .generation = header.generation},
          .chain = {.next_sequence = header.first_sequence,
                    .epoch = header.epoch,
                    .time_ms = header.created_ms}};
}

bool belongs(const SegmentReader& segment, const LogId& log_id) {
  return segment.header_fits() && segment.header()->log_id == log_id;
}

}  // namespace

// Calls find(files) until no segment goes meanwhile.
template <typename Find>
Result<WalkPoint> LogSeeker::find_in_listing(Find find) {
  for (int attempt = 0;; ++attempt) {
    files_ = NORI_TRY(list_log(directory_)).segments;
    if (files_.empty()) {
      return make_error(ErrorCode::not_a_log, "{}: no segment of a log is left here",
                        directory_.path().string());
    }
    Result<WalkPoint> found = find(files_);
    if (found || found.error().system_errno != ENOENT || attempt == kAttemptsMax) {
      return found;
    }
  }
}

Result<std::unique_ptr<SegmentReader>> LogSeeker::open_first(const SegmentFile& file) {
  auto segment = NORI_TRY(SegmentReader::open(directory_, file));
  if (!belongs(*segment, log_id_)) {
    return make_error(ErrorCode::damaged,
                      "{} at offset 0: bad segment header; restore the file from a copy",
                      (directory_.path() / file.name()).string());
  }
  return segment;
}

// The last segment whose header has before(header), or the first one.
template <typename Before>
Result<std::unique_ptr<SegmentReader>> LogSeeker::last_segment_before(
    const std::vector<SegmentFile>& files, Before before) {
  std::unique_ptr<SegmentReader> best;
  std::size_t low = 0;  // best is files[low - 1], or there is none
  for (std::size_t high = files.size(); low < high;) {
    const auto middle = low + (high - low) / 2;
    auto segment = NORI_TRY(SegmentReader::open(directory_, files[middle]));
    // One with a bad header is walked to from before, which says what is wrong with it.
    if (belongs(*segment, log_id_) && before(*segment->header())) {
      best = std::move(segment);
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return best != nullptr ? Result<std::unique_ptr<SegmentReader>>(std::move(best))
                         : open_first(files.front());
}

// The last indexed frame of the segment with before(entry), or its first frame.
template <typename Before>
Result<WalkPoint> LogSeeker::point_in_segment(SegmentReader& segment, Before before) {
  auto point = segment_begin(*segment.header());
  auto summary = NORI_TRY(segment.footer());
  if (!summary) {
    if (auto close = NORI_TRY(segment.close_frame()); close) {
      summary = std::move(close->summary);
    }
  }
  if (!summary) {
    return point;
  }
  const auto behind = std::ranges::partition_point(summary->index, before);
  if (behind == summary->index.begin()) {
    return point;
  }
  const auto& entry = *(behind - 1);
  segment.drop_window();
  const auto header = decode_frame_header(NORI_TRY(segment.view(entry.offset, kFrameHeaderBytes)),
                                          place_seed(segment.header()->seed(), entry.offset));
  // Where it is not what the index says, the walk finds out from the beginning.
  const bool has_records =
      header && (header->kind == FrameKind::records || header->kind == FrameKind::compacted);
  if (has_records && header->first_sequence == entry.sequence) {
    point.place.offset = entry.offset;
    point.chain = {.next_sequence = header->first_sequence,
                   .epoch = header->epoch,
                   .time_ms = header->time_ms};
  }
  return point;
}

std::unexpected<Error> LogSeeker::gone(std::string_view what, const SegmentHeader& first) {
  auto error = make_error(ErrorCode::gone,
                          "{}: {} was deleted; the first record left is {} (seq:{}, segment {})",
                          directory_.path().string(), what, first.first_sequence,
                          first.first_sequence, first.first_segment);
  error.error().position = Position{.segment_id = first.first_segment,
                                    .offset = first.first_offset,
                                    .sequence = first.first_sequence};
  return error;
}

Result<WalkPoint> LogSeeker::begin() {
  return find_in_listing([&](const auto& files) -> Result<WalkPoint> {
    const auto first = NORI_TRY(open_first(files.front()));
    return segment_begin(*first->header());
  });
}

Result<WalkPoint> LogSeeker::at_sequence(Sequence sequence) {
  return find_in_listing([&](const auto& files) -> Result<WalkPoint> {
    const auto segment = NORI_TRY(last_segment_before(
        files, [&](const SegmentHeader& header) { return header.first_sequence <= sequence; }));
    if (segment->header()->first_sequence > sequence) {
      return gone(fmt::format("record {}", sequence), *segment->header());
    }
    return point_in_segment(*segment,
                            [&](const IndexEntry& entry) { return entry.sequence <= sequence; });
  });
}

Result<WalkPoint> LogSeeker::at_time(std::uint64_t time_ms) {
  return find_in_listing([&](const auto& files) -> Result<WalkPoint> {
    const auto segment = NORI_TRY(last_segment_before(
        files, [&](const SegmentHeader& header) { return header.created_ms < time_ms; }));
    return point_in_segment(*segment,
                            [&](const IndexEntry& entry) { return entry.time_ms < time_ms; });
  });
}

Result<WalkPoint> LogSeeker::at_place(const FramePlace& place) {
  // By walking there: bytes at the place alone do not say whether they belong to the log.
  auto start = find_in_listing([&](const auto& files) -> Result<WalkPoint> {
    const auto segment = NORI_TRY(last_segment_before(files, [&](const SegmentHeader& header) {
      return header.first_segment <= place.segment_id;
    }));
    if (segment->segment_id() > place.segment_id) {
      return gone(fmt::format("segment {}", place.segment_id), *segment->header());
    }
    if (segment->segment_id() < place.segment_id) {
      return segment_begin(*segment->header());
    }
    return point_in_segment(*segment,
                            [&](const IndexEntry& entry) { return entry.offset <= place.offset; });
  });
  FrameWalker walker(directory_, log_id_, ring_access_, files_);
  walker.seek(NORI_TRY(std::move(start)));
  while (walker.place().segment_id < place.segment_id ||
         (walker.place().segment_id == place.segment_id && walker.place().offset < place.offset)) {
    if (!NORI_TRY(walker.next())) {
      break;
    }
  }
  const auto point = walker.point();
  if (point.place.segment_id != place.segment_id || point.place.offset != place.offset ||
      !NORI_TRY(walker.next())) {
    return make_error(
        ErrorCode::not_a_record,
        "{} at offset {}: no frame begins there; dump shows the places where one does",
        (directory_.path() / segment_name(place.segment_id)).string(), place.offset);
  }
  return point;
}

Result<std::optional<WalkPoint>> find_next_frame(io::Directory& directory, const LogId& log_id,
                                                 const WalkPoint& bad) {
  const auto continues = [&](const FrameHeader& header) {
    return header.first_sequence >= bad.chain.next_sequence &&
           header.epoch >> 40 >= bad.chain.epoch >> 40;
  };
  const auto listing = NORI_TRY(list_log(directory));
  const auto file = listing.file_of(bad.place.segment_id).value_or(bad.place.segment_id);
  if (const auto opened = NORI_TRY(SegmentReader::open_if_there(directory, file));
      opened != nullptr && belongs(*opened, log_id)) {
    auto& segment = *opened;
    const auto seed = segment.header()->seed();
    const auto file_bytes = NORI_TRY(segment.size());
    for (auto chunk = bad.place.offset + 1; chunk < file_bytes; chunk += kChunkBytes) {
      const auto bytes = NORI_TRY(segment.view(chunk, kChunkBytes + kFrameHeaderBytes - 1));
      for (std::uint64_t i = 0; i < kChunkBytes && i + kFrameHeaderBytes <= bytes.size(); ++i) {
        const auto offset = chunk + i;
        if (!may_be_frame_header(bytes.data() + i)) {
          continue;
        }
        const auto header = decode_frame_header(bytes.subspan(i), place_seed(seed, offset));
        if (!header || !continues(*header)) {
          continue;
        }
        // Its payload is read apart from this walk's window.
        const auto frame = NORI_TRY(SegmentReader::open(directory, file));
        const auto payload =
            NORI_TRY(frame->view(offset + kFrameHeaderBytes, header->payload_bytes));
        if (!payload_matches(*header, payload)) {
          continue;
        }
        auto epoch = header->epoch;
        if (header->kind == FrameKind::opening) {
          const auto opening = decode_opening(payload);
          if (!opening) {
            continue;
          }
          epoch = opening->previous_epoch;
        }
        return WalkPoint{.place = {.segment_id = bad.place.segment_id,
                                   .offset = offset,
                                   .ring_base = segment.header()->ring_base,
                                   .generation = segment.header()->generation},
                         .chain = {.next_sequence = header->first_sequence,
                                   .epoch = epoch,
                                   .time_ms = header->time_ms}};
      }
    }
  }
  for (const auto& next : listing.behind(bad.place.segment_id)) {
    const auto segment = NORI_TRY(SegmentReader::open_if_there(directory, next));
    if (segment != nullptr && belongs(*segment, log_id) &&
        segment->header()->first_sequence >= bad.chain.next_sequence) {
      return segment_begin(*segment->header());
    }
  }
  return std::nullopt;
}

}  // namespace nori
