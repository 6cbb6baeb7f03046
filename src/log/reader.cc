#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "base/make_error.h"
#include "base/try.h"
#include "format/record.h"
#include "log/durable_mark.h"
#include "log/reader_impl.h"
#include "log/seek.h"
#include "log/tail_evidence.h"
#include "segment/segment_name.h"

namespace nori {
namespace {

constexpr std::chrono::microseconds kPollMin{50};
constexpr std::chrono::microseconds kPollMax{2000};
// How often evidence against a place is weighed against reading it once more.
constexpr int kLooksMax = 3;

std::uint64_t to_ms(TimePoint time) {
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(time.time_since_epoch()).count();
  return ms < 0 ? 0 : static_cast<std::uint64_t>(ms);
}

// Made where the caller has it, of what is in registers: a copy of what was just stored in pieces
// waits for the cache, and an optional that begins empty is cleared first (by g++ 12).
[[gnu::always_inline]] inline Result<std::optional<Entry>> entry_of(
    const Record& record, Sequence sequence, const FramePlaceInLog& place, const Position& end,
    std::uint64_t epoch, TimePoint time, bool ends_batch) {
  Result<std::optional<Entry>> entry(std::in_place, std::in_place, sequence, Epoch{epoch},
                                     Position{place.segment_id, place.offset, sequence}, end, time,
                                     record.op, record.key, record.value, std::nullopt, ends_batch);
  if (record.expires_at) {
    (*entry)->expires_at = record.expires_at;
  }
  return entry;
}

}  // namespace

Reader::Impl::Impl(Source source, ReadOptions options)
    : source_(std::move(source)),
      options_(options),
      walker_(*source_.directory, source_.log_id, source_.ring_access),
      fork_generation_(io::fork_generation()) {}

Result<std::unique_ptr<Reader::Impl>> Reader::Impl::open(Source source, const ReadFrom& from,
                                                         ReadOptions options) {
  std::unique_ptr<Impl> reader(new Impl(std::move(source), options));
  LogSeeker seeker(*reader->source_.directory, reader->source_.log_id, reader->source_.ring_access);
  const auto start_at = [&](Sequence sequence) -> Result<WalkPoint> {
    reader->skip_to_ = sequence;
    if (const auto& end = reader->source_.end; end && end->chain.next_sequence == sequence) {
      return *end;
    }
    return seeker.at_sequence(sequence);
  };
  Result<WalkPoint> point;
  if (const auto* position = std::get_if<Position>(&from)) {
    point = start_at(position->sequence);
  } else if (const auto* sequence = std::get_if<Sequence>(&from)) {
    point = start_at(*sequence);
  } else if (const auto* time = std::get_if<TimePoint>(&from)) {
    reader->skip_to_ms_ = to_ms(*time);
    point = seeker.at_time(reader->skip_to_ms_);
  } else if (const auto* place = std::get_if<FramePlace>(&from)) {
    point = seeker.at_place(*place);
  } else {
    point = seeker.begin();
  }
  if (!point) {
    return std::unexpected(std::move(point).error());
  }
  reader->walker_.seek(*point, seeker.files());
  reader->place_segment_id_ = point->place.segment_id;
  if (const auto& place = reader->source_.place; place != nullptr) {
    place->move_to(point->place.segment_id);
  }
  reader->position_ = {.segment_id = point->place.segment_id,
                       .offset = point->place.offset,
                       .sequence = std::max(reader->skip_to_, point->chain.next_sequence)};
  return reader;
}

Result<void> Reader::Impl::unusable() const {
  return make_error(ErrorCode::closed,
                    "{}: this process is a fork of the one that opened the log; open it again here",
                    source_.directory->path().string());
}

inline Result<std::optional<Entry>> Reader::Impl::next() {
  if (ready_) [[unlikely]] {
    return std::exchange(ready_, std::nullopt);
  }
  NORI_TRY(check_usable());
  return step(Scrutiny::full);
}

Result<bool> Reader::Impl::follow(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (auto pause = kPollMin;; pause = std::min(2 * pause, kPollMax)) {
    NORI_TRY(check_usable());
    if (!ready_) {
      ready_ = NORI_TRY(step(Scrutiny::glance));
    }
    if (ready_) {
      return true;
    }
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left <= std::chrono::steady_clock::duration::zero()) {
      return false;
    }
    std::this_thread::sleep_for(std::min<std::chrono::steady_clock::duration>(pause, left));
  }
}

// Makes a frame, which stays until the next one, the current one, unless none of its records is
// wanted.
inline bool Reader::Impl::begin_frame(const WalkedFrame& frame) {
  const auto& header = frame.header;
  if (frame.place.segment_id != place_segment_id_) [[unlikely]] {
    place_segment_id_ = frame.place.segment_id;
    if (source_.place != nullptr) {
      source_.place->move_to(place_segment_id_);
    }
  }
  if (header.kind == FrameKind::compacted && header.end_sequence() > position_.sequence) {
    frame_ = &frame;
    frame_end_sequence_ = next_in_frame_ = header.end_sequence();
    compacted_.emplace(header, frame.payload);
    return true;
  }
  if (header.kind != FrameKind::records || header.end_sequence() <= skip_to_ ||
      header.time_ms < skip_to_ms_) {
    source_.durable = std::max(source_.durable, header.durable_mark);
    return false;
  }
  skip_to_ms_ = 0;
  frame_ = &frame;
  frame_time_ = time_point_of(static_cast<std::int64_t>(header.time_ms));
  frame_end_sequence_ = header.end_sequence();
  payload_left_ = frame.payload;
  next_in_frame_ = header.first_sequence;
  return true;
}

Result<std::optional<Entry>> Reader::Impl::step(Scrutiny scrutiny) {
  for (;;) {
    if (compacted_) [[unlikely]] {
      if (auto entry = NORI_TRY(step_compacted()); entry) {
        return entry;
      }
    }
    while (!payload_left_.empty()) {
      StoredRecord stored;
      if (!decode_record(payload_left_, stored) || next_in_frame_ == frame_end_sequence_)
          [[unlikely]] {
        payload_left_ = {};
        const auto bad = std::exchange(next_in_frame_, frame_end_sequence_);
        return damaged_frame(fmt::format("record {} is malformed", bad));
      }
      const auto sequence = next_in_frame_++;
      if (sequence < skip_to_) {
        continue;
      }
      if (stored.compression != Compression::none) [[unlikely]] {
        // Not into stored, whose address nothing takes: so it is never in memory.
        std::string_view value;
        if (!value_buffer_.decompress(stored.compression, stored.record.value, stored.plain_bytes,
                                      value)) {
          payload_left_ = {};
          next_in_frame_ = frame_end_sequence_;
          return damaged_frame(
              fmt::format("the value of record {} cannot be decompressed", sequence));
        }
        stored.record.value = value;
      }
      const auto& place = frame_->place;
      const bool ends_batch = payload_left_.empty();
      position_ = {.segment_id = place.segment_id,
                   .offset = ends_batch ? frame_->end_offset() : place.offset,
                   .sequence = sequence + 1};
      return entry_of(stored.record, sequence, place, position_, frame_->header.epoch, frame_time_,
                      ends_batch);
    }
    if (next_in_frame_ != frame_end_sequence_) {
      next_in_frame_ = frame_end_sequence_;
      return damaged_frame("the frame has fewer records than its header says");
    }
    if (options_.visible == Visible::appended && !damage_) [[likely]] {
      if (const auto* const frame = walker_.next_at_hand(); frame != nullptr) [[likely]] {
        begin_frame(*frame);
        continue;
      }
    }
    if (!NORI_TRY(take_frame(scrutiny))) {
      return std::nullopt;
    }
  }
}

// The next record that is left of a compacted frame and wanted; nothing behind the last.
Result<std::optional<Entry>> Reader::Impl::step_compacted() {
  while (auto record = compacted_->next()) {
    // A reader that comes from a file as it was before may come to the middle of a frame.
    if (record->sequence < position_.sequence || record->time_ms < skip_to_ms_) {
      continue;
    }
    skip_to_ms_ = 0;
    auto& stored = record->stored;
    if (stored.compression != Compression::none &&
        !value_buffer_.decompress(stored.compression, stored.record.value, stored.plain_bytes,
                                  stored.record.value)) {
      compacted_.reset();
      return damaged_frame(
          fmt::format("the value of record {} cannot be decompressed", record->sequence));
    }
    const auto& place = frame_->place;
    position_ = {.segment_id = place.segment_id,
                 .offset = compacted_->is_done() ? frame_->end_offset() : place.offset,
                 .sequence = record->sequence + 1};
    return entry_of(stored.record, record->sequence, place, position_, frame_->header.epoch,
                    time_point_of(static_cast<std::int64_t>(record->time_ms)), record->ends_batch);
  }
  const bool is_done = compacted_->is_done();
  compacted_.reset();
  if (!is_done) {
    return damaged_frame("the frame's records are malformed");
  }
  position_.sequence = std::max(position_.sequence, frame_end_sequence_);
  return std::nullopt;
}

// Makes the next frame with records that may be seen the current one. False at the end.
Result<bool> Reader::Impl::take_frame(Scrutiny scrutiny) {
  for (;;) {
    if (damage_ && !options_.skip_damaged) {
      return std::unexpected(*damage_);
    }
    const auto before = walker_.point();
    const auto frame = NORI_TRY(walker_.next());
    if (!frame) {
      if (NORI_TRY(judge(scrutiny)) == Verdict::end) {
        return false;
      }
      continue;
    }
    walked_frame_ = *frame;
    if (begin_frame(walked_frame_)) {
      if (options_.visible == Visible::appended) {
        return true;
      }
      auto visible = is_visible(frame->header);
      if (!visible || !*visible) {
        payload_left_ = {};
        compacted_.reset();
        next_in_frame_ = frame_end_sequence_;
        walker_.seek(before);  // and read it again next time, also where that was an error
      }
      return visible;
    }
  }
}

Result<bool> Reader::Impl::is_visible(const FrameHeader& header) {
  source_.durable = std::max(source_.durable, header.durable_mark);
  if (header.end_sequence() <= source_.durable) {
    return true;
  }
  return header.end_sequence() <= NORI_TRY(durable_sequence());
}

// Everything before it is durable: as the log's own writer says, or another's in the ring's header.
Result<Sequence> Reader::Impl::durable_sequence() {
  source_.durable =
      std::max(source_.durable, source_.progress->durable.load(std::memory_order_acquire));
  NORI_TRY(walker_.refresh_ring());
  source_.durable =
      std::max(source_.durable,
               NORI_TRY(durable_mark_on_disk(*source_.directory, source_.log_id, walker_.ring())));
  return source_.durable;
}

std::unexpected<Error> Reader::Impl::damaged(const std::string& why) {
  return damaged(why, walker_.place(), walker_.chain().next_sequence);
}

// The current frame, though its checksum is right.
std::unexpected<Error> Reader::Impl::damaged_frame(const std::string& why) {
  return damaged(why, frame_->place, frame_->header.first_sequence);
}

std::unexpected<Error> Reader::Impl::damaged(const std::string& why, const FramePlaceInLog& place,
                                             Sequence next_sequence) {
  const auto* const segment = walker_.segment();
  auto error = make_error(
      ErrorCode::damaged,
      "{} at offset {}: {}; records before {} are good, restore the file from a copy or read on "
      "with skip_damaged",
      (source_.directory->path() /
       (segment != nullptr ? segment->name().name() : segment_name(place.segment_id)))
          .string(),
      place.offset, why, next_sequence);
  error.error().position =
      Position{.segment_id = place.segment_id, .offset = place.offset, .sequence = next_sequence};
  damage_ = error.error();
  source_.observer->events.post(DamageFound{.by = DamageFound::By::reader,
                                            .segment_id = place.segment_id,
                                            .offset = place.offset,
                                            .reason = why});
  return error;
}

// Where the segment that the walk came to was compacted meanwhile: in the file that covers it, by
// sequence.
Result<bool> Reader::Impl::go_on_in_compacted(const LogListing& listing) {
  const auto file = listing.file_of(walker_.place().segment_id);
  const auto* const segment = walker_.segment();
  if (!file || !file->is_compacted || (segment != nullptr && segment->name() == *file)) {
    return false;
  }
  NORI_TRY(seek_on());
  return true;
}

// To where the next record is now.
Result<void> Reader::Impl::seek_on() {
  LogSeeker seeker(*source_.directory, source_.log_id, source_.ring_access);
  position_.sequence = std::max(position_.sequence, walker_.chain().next_sequence);
  const auto point = NORI_TRY(seeker.at_sequence(position_.sequence));
  walker_.seek(point, seeker.files());
  return {};
}

// The walker found no frame: is that the end of what is there now, or is something missing?
Result<Reader::Impl::Verdict> Reader::Impl::judge(Scrutiny scrutiny) {
  const auto stopped_at = walker_.point();
  const bool is_known = end_judged_ && *end_judged_ == stopped_at.place;
  const bool says_more = NORI_TRY(durable_sequence()) > stopped_at.chain.next_sequence;
  if (!says_more && !walker_.segment_is_missing() && (is_known || scrutiny == Scrutiny::glance)) {
    return Verdict::end;
  }
  std::string why;
  for (int look = 0; look < kLooksMax; ++look) {
    const auto listing = NORI_TRY(list_log(*source_.directory));
    if (NORI_TRY(go_on_in_compacted(listing))) {
      return Verdict::look_again;
    }
    const auto& files = listing.segments;
    if (!files.empty() && stopped_at.place.segment_id < files.front().first &&
        walker_.segment_is_missing()) {
      // It may have come to the segment's end already.
      const auto sought = seek_on();
      if (sought || sought.error().code != ErrorCode::gone) {
        return sought ? Result<Verdict>(Verdict::look_again) : std::unexpected(sought.error());
      }
      return make_error(ErrorCode::gone,
                        "{}: segment {} was deleted before it was read; the first one left is {}",
                        source_.directory->path().string(), stopped_at.place.segment_id,
                        files.front().first);
    }
    const auto behind = listing.behind(stopped_at.place.segment_id);
    why.clear();
    if (walker_.segment_is_missing() && !behind.empty()) {
      why = fmt::format("the segment is missing, but {} is there", behind.front().name());
    } else {
      const auto durable = NORI_TRY(durable_sequence());
      const auto findings =
          NORI_TRY(examine_tail(*source_.directory, source_.log_id, walker_, durable, behind));
      if (!findings.evidence.empty()) {
        why = fmt::format("{}, but {}", walker_.stop_reason(), findings.evidence);
      }
    }
    if (why.empty()) {
      end_judged_ = stopped_at.place;
      return Verdict::end;
    }
    // Beside a live writer the place may have been filled meanwhile: nothing is judged at first
    // sight.
    if (NORI_TRY(walker_.next())) {
      walker_.seek(stopped_at);
      return Verdict::look_again;
    }
  }
  if (damage_ && damage_->position->segment_id == stopped_at.place.segment_id &&
      damage_->position->offset == stopped_at.place.offset) {
    // Answered before, and to be skipped.
    const auto next = NORI_TRY(find_next_frame(*source_.directory, source_.log_id, stopped_at));
    if (!next) {
      return Verdict::end;
    }
    walker_.seek(*next);
    return Verdict::look_again;
  }
  return damaged(why);
}

OwnedEntry Entry::copy() const {
  return {.sequence = sequence,
          .epoch = epoch,
          .position = position,
          .end = end,
          .time = time,
          .op = op,
          .key = std::string(key),
          .value = std::string(value),
          .expires_at = expires_at,
          .ends_batch = ends_batch};
}

Reader::Reader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Reader::Reader(Reader&&) noexcept = default;
Reader& Reader::operator=(Reader&&) noexcept = default;
Reader::~Reader() = default;

Result<std::optional<Entry>> Reader::next() {
  auto entry = impl_->next();
  if (!entry) [[unlikely]] {
    impl_->events().deliver();  // a reader's events are damages
  }
  return entry;
}

Result<bool> Reader::follow(std::chrono::milliseconds timeout) {
  const EventDelivery told(impl_->events());
  return impl_->follow(timeout);
}

Position Reader::position() const noexcept { return impl_->position(); }

Reader::Iterator& Reader::Iterator::operator++() {
  if (reader_ == nullptr) {
    return *this;
  }
  if (!current_) {
    reader_ = nullptr;  // an error was the last step
    return *this;
  }
  auto step = reader_->next();
  if (!step) {
    current_ = std::unexpected(std::move(step).error());
  } else if (*step) {
    current_ = **step;
  } else {
    reader_ = nullptr;
  }
  return *this;
}

}  // namespace nori
