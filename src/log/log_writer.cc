// The append side: taking a place, and making room for it. log_writer_flush.cc is the other side.

#include "log/log_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "base/make_error.h"
#include "base/preemption.h"
#include "base/try.h"
#include "log/padding_frame.h"
#include "segment/aligned_buffer.h"
#include "segment/block_writer.h"
#include "segment/segment_name.h"

namespace nori {
namespace {

// Space is prepared in steps that double, so that a small log stays small.
constexpr std::uint64_t kStepBytesMin = 64 * kKiB;
constexpr std::uint64_t kStepBytesMax = 16 * kMiB;
// They are made ahead of the appends where there is space for so many more.
constexpr std::uint64_t kStepsFreeMin = 8;
// Blocks are filled with zeros ahead of small durable writes in steps that double too.
constexpr std::uint64_t kZeroStepBytesMin = 256 * kKiB;
constexpr std::uint64_t kZeroStepBytesMax = 4 * kMiB;
constexpr std::uint64_t kZeroWriteBytes = 256 * kKiB;
// What a frame behind the last record may need: padding that does not fit into its block (2
// blocks), then a rotation or close frame that does not either (2 more).
constexpr std::uint64_t kTailBlocks = 4;
constexpr std::uint32_t kEpochNumberMax = 0xff'ffff;
// A larger frame than this part of the ring goes past it.
constexpr std::uint64_t kStraightPart = 4;

// Made of numbers, where the caller has it: a copy of what was just stored waits until that, and
// all that was stored before it, has reached the cache.
[[gnu::always_inline]] inline Result<Appended> appended_at(std::uint64_t segment_id,
                                                           std::uint64_t end_offset,
                                                           const FrameHeader& header) {
  return Result<Appended>(
      std::in_place, header.first_sequence,
      Position{segment_id, end_offset - header.frame_bytes(), header.first_sequence},
      Position{segment_id, end_offset, header.end_sequence()});
}

}  // namespace

LogWriter::LogWriter(io::FileSystem& file_system, io::Directory& directory, const IoChoice& io,
                     const WalOptions& options, const LogId& log_id,
                     std::shared_ptr<FlushTurn> turn, std::shared_ptr<Observer> observer,
                     std::function<void()> on_rotation)
    : file_system_(file_system),
      directory_(directory),
      observer_(std::move(observer)),
      on_rotation_(std::move(on_rotation)),
      io_(io),
      fsync_(options.fsync),
      padding_(options.padding),
      segment_bytes_(options.segment_bytes),
      log_id_(log_id),
      step_bytes_(kStepBytesMin),
      turn_(std::move(turn)),
      zero_step_bytes_(kZeroStepBytesMin) {}

std::uint64_t LogWriter::tail_bytes() const noexcept { return kTailBlocks * block_bytes(); }

std::uint64_t LogWriter::allocated_room() const noexcept {
  return placing_.ring_base + placing_.allocated - std::min(placing_.allocated, tail_bytes());
}

Result<std::unique_ptr<LogWriter>> LogWriter::begin(io::FileSystem& file_system,
                                                    io::Directory& directory, LogScan& recovered,
                                                    std::uint64_t epoch_bits, const IoChoice& io,
                                                    const WalOptions& options,
                                                    std::shared_ptr<FlushTurn> turn,
                                                    std::shared_ptr<Observer> observer,
                                                    std::function<void()> on_rotation) {
  std::unique_ptr<LogWriter> writer(new LogWriter(file_system, directory, io, options,
                                                  recovered.log_id, std::move(turn),
                                                  std::move(observer), std::move(on_rotation)));
  NORI_TRY(writer->write_opening(recovered, epoch_bits));
  if (options.background_thread) {
    writer->start_background(options.background);
  }
  return writer;
}

// (e) of docs/recovery.md#order.
Result<void> LogWriter::write_opening(LogScan& recovered, std::uint64_t epoch_bits) {
  const auto number = (recovered.chain.epoch >> 40) + 1;
  if (number > kEpochNumberMax) {
    return make_error(ErrorCode::too_large,
                      "{}: the log was opened {} times, which is all its format can count; dump it "
                      "into a new one",
                      directory_.path().string(), kEpochNumberMax);
  }
  for (const auto& name : recovered.listing.void_files) {
    static_cast<void>(directory_.remove(name));  // recovery did where there was one
  }
  const auto& end = recovered.end;
  placing_.id = end.segment_id;
  placing_.ring_base = end.ring_base;
  placing_.seed = segment_seed(log_id_, 0, end.segment_id);
  placing_.first_sequence = recovered.end_segment.first_sequence;
  placing_.limit = segment_bytes_;
  placing_.file = NORI_TRY(
      directory_.open(segment_name(end.segment_id), io_.mode.access, io::Creation::existing));
  if (io_.ring_bytes != 0) {
    // First: it says how far the log is durable once that no longer ends in a close frame.
    ring_ = NORI_TRY(AppendRing::create(
        directory_, log_id_, io_.ring_bytes,
        {.durable_mark = recovered.chain.next_sequence, .segment_id = end.segment_id}));
    large_bytes_ = ring_->bytes() / kStraightPart;
  }
  placing_.allocated = end.offset + block_bytes() + std::max(kStepBytesMin, tail_bytes());
  if (auto allocated = placing_.file->allocate(end.offset, placing_.allocated - end.offset);
      !allocated) {
    if (ring_ != nullptr) {
      static_cast<void>(directory_.remove(kRingName));  // the log is as it was
    }
    return allocated;
  }
  recovered.closed_cleanly = false;

  chain_ = recovered.chain;
  summary_ = recovered.end_summary;
  FrameHeader header;
  header.kind = FrameKind::opening;
  header.payload_bytes = block_bytes() - kFrameHeaderBytes;
  header.first_sequence = chain_.next_sequence;
  header.epoch = number << 40 | epoch_bits >> 24;
  header.time_ms = std::max(chain_.time_ms, file_system_.now_ms());
  header.durable_mark = chain_.next_sequence;
  AlignedBuffer block(block_bytes());
  std::memset(block.data(), 0, block.size());
  encode_opening({.previous_epoch = chain_.epoch}, block.data() + kFrameHeaderBytes);
  header.payload_crc32c = crc32c(0, block.span().subspan(kFrameHeaderBytes));
  encode_frame_header(header, place_seed(placing_.seed, end.offset), block.data());
  NORI_TRY(placing_.file->write_at(end.offset, block.span(), {}, false));
  NORI_TRY(observer_->timed_sync(segment_name(placing_.id), [&] { return placing_.file->sync(); }));

  end_ = end.ring_address();
  first_sequence_ = chain_.next_sequence;
  advance(header);
  first_address_ = end_;
  flushing_ = {.id = placing_.id, .ring_base = placing_.ring_base, .file = placing_.file};
  flushing_id_.store(placing_.id);
  turn_->written.store(end_);
  set_durable(chain_.next_sequence, end_);
  room_end_ = allocated_room();
  update_place_limit();
  return {};
}

// Puts a frame at the end: into the ring, or into its segment where there is none.
[[gnu::always_inline]] inline Result<void> LogWriter::store(const FrameHeader& header,
                                                            const FrameBody& body,
                                                            std::uint64_t zeros_behind) {
  const auto seed = place_seed(placing_.seed, end_ - placing_.ring_base);
  if (ring_ == nullptr) [[unlikely]] {
    encode_frame_header(header, seed, body.header());
    return store_in_file(body, zeros_behind);
  }
  auto address = end_ + body.front().size();
  if (auto* const at = ring_->whole(end_, body.front().size()); at != nullptr) [[likely]] {
    // The payload first: copying it need not wait for the checksums.
    std::memcpy(at + kFrameHeaderBytes, body.front().data() + kFrameHeaderBytes,
                body.front().size() - kFrameHeaderBytes);
    encode_frame_header(header, seed, at);
  } else {
    encode_frame_header(header, seed, body.header());
    ring_->write(end_, body.front());
  }
  preemption_point("copy");
  for (const auto piece : body.rest()) {
    if (!piece.empty()) {
      ring_->write(address, piece);
      address += piece.size();
    }
  }
  if (zeros_behind != 0) {
    ring_->write_zeros(address, zeros_behind);
  }
  return {};
}

inline void LogWriter::count(const FrameHeader& header) {
  appends_.store(appends_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (header.frame_bytes() > segment_bytes_) [[unlikely]] {
    // It has its segment to itself.
    room_end_ = std::min(room_end_, end_);
    update_place_limit();
  }
}

Result<Appended> LogWriter::append(const FrameBody& body, bool may_wait) {
  const auto frame_bytes = body.frame_bytes();
  if (frame_bytes > large_bytes_) [[unlikely]] {
    NORI_TRY(check_size(body));
    if (ring_ != nullptr) {
      return append_straight(body, may_wait);
    }
  }
  // Not in memory: taking the lock waits for what was stored before it, so for the checksum too.
  const auto payload_crc32c = body.payload_crc32c();
  const auto now_ms = file_system_.now_ms();
  std::unique_lock place(place_mutex_);
  if (end_ + frame_bytes > place_limit_) [[unlikely]] {
    NORI_TRY(wait_for_place(place, frame_bytes, may_wait));
  }
  if (turn_->failed.load(std::memory_order_relaxed)) [[unlikely]] {
    return failed();
  }
  const auto header =
      next_header(body.record_count(), body.payload_bytes(), payload_crc32c, now_ms);
  NORI_TRY(store(header, body, 0));
  advance(header);
  count(header);
  const auto segment_id = placing_.id;
  const auto end_offset = end_ - placing_.ring_base;
  const bool wake = wants_background();
  place.unlock();
  if (wake) [[unlikely]] {
    background_->wake();
  }
  return appended_at(segment_id, end_offset, header);
}

Result<void> LogWriter::check_size(const FrameBody& body) const {
  if (body.payload_bytes() <= kPayloadBytesMax && body.record_count() <= kRecordsPerFrameMax) {
    return {};
  }
  return make_error(ErrorCode::too_large,
                    "{}: {} records of {} bytes are more than a frame holds ({} and {}); append "
                    "them in smaller batches",
                    directory_.path().string(), body.record_count(), body.payload_bytes(),
                    kRecordsPerFrameMax, kPayloadBytesMax);
}

Result<void> LogWriter::wait_for_place(std::unique_lock<BackoffMutex>& place,
                                       std::uint64_t frame_bytes, bool may_wait) {
  for (;;) {
    if (turn_->failed.load()) {
      return failed();
    }
    if (end_ + frame_bytes > room_end_) {
      NORI_TRY(make_room(place, frame_bytes));
    } else {
      update_place_limit();
      if (end_ + frame_bytes <= place_limit_) {
        return {};
      }
      if (!may_wait) {
        return make_error(ErrorCode::busy, "{}: the ring is full; try again, or append and wait",
                          directory_.path().string());
      }
      NORI_TRY(wait_for_ring(place, frame_bytes));
    }
    if (end_ + frame_bytes <= place_limit_) {
      return {};
    }
  }
}

bool LogWriter::wants_background() noexcept {
  if (end_ < wake_address_) [[likely]] {
    return false;
  }
  wake_address_ = FlushTurn::kNever;
  return background_ != nullptr;
}

// A frame without records: `payload_front`, then zeros to a block's end.
Result<void> LogWriter::place_filler(FrameKind kind, ByteView payload_front) {
  FrameBody::Scratch scratch;
  const FrameBody body(payload_front, 0, scratch);
  const auto offset = end_ - placing_.ring_base;
  const auto zeros =
      round_up(offset + body.frame_bytes(), block_bytes()) - offset - body.frame_bytes();
  auto header = next_header(0, body.payload_bytes() + zeros,
                            crc32c_of_zeros(body.payload_crc32c(), zeros), file_system_.now_ms());
  header.kind = kind;
  NORI_TRY(store(header, body, zeros));
  advance(header);
  bytes_padding_ += header.frame_bytes();
  return {};
}

Result<void> LogWriter::pad() {
  if ((end_ - placing_.ring_base) % block_bytes() == 0) {
    return {};
  }
  return place_filler(FrameKind::padding, {});
}

// One system call, copying no value; two where the frame goes on in another block: nobody sees one
// that comes to be refused, though what it lacks be zeros.
Result<void> LogWriter::store_in_file(const FrameBody& body, std::uint64_t zeros_behind) {
  const auto offset = end_ - placing_.ring_base;
  std::string front(as_text(body.front()));
  ByteView last;
  for (const auto piece : body.rest()) {
    front.append(as_text(last));
    last = piece;
  }
  if (zeros_behind != 0) {
    front.append(as_text(last)).append(zeros_behind, '\0');
    last = {};
  }
  const auto write = [&](std::uint64_t from, std::uint64_t to) {
    const auto piece = [&](ByteView bytes, std::uint64_t begin) {
      const auto first = std::clamp(from, begin, begin + bytes.size());
      const auto end = std::clamp(to, begin, begin + bytes.size());
      return bytes.subspan(first - begin, end - first);
    };
    return placing_.file->write_at(offset + from, piece(as_byte_view(front), 0),
                                   piece(last, front.size()), false);
  };
  const auto bytes = front.size() + last.size();
  const auto in_first_block =
      std::min<std::uint64_t>(bytes, round_up(offset + 1, block_bytes()) - offset);
  auto written = in_first_block == bytes ? Result<void>{} : write(in_first_block, bytes);
  if (written) {
    written = write(0, in_first_block);
  }
  observer_->note_space(SpaceNeed::placing, written);
  if (!written) {
    if (written.error().code != ErrorCode::no_space) {
      return fail(std::move(written).error());
    }
    NORI_TRY(cut_back(*placing_.file, offset));
    return written;
  }
  return {};
}

// After a write that found no space: nothing was appended, so nothing of it may be found, also
// after a power cut, which may bring back any version of a block. A synced truncation leaves none.
Result<void> LogWriter::cut_back(io::File& file, std::uint64_t end) {
  if (auto cut = file.truncate(end); !cut) {
    return fail(std::move(cut).error());
  }
  if (auto synced = file.sync(); !synced) {
    return fail(std::move(synced).error());
  }
  if (placing_.allocated > end && !file.allocate(end, placing_.allocated - end)) {
    // Somebody else has taken it. Padding may come all the same; so that it does not change the
    // file's size, which an allocation that fails takes back, that is more, where it can be.
    placing_.allocated = end;
    static_cast<void>(file.truncate(end + tail_bytes()));
  }
  room_end_ = std::min(room_end_, allocated_room());
  update_place_limit();
  return {};
}

void LogWriter::update_place_limit() {
  place_limit_ = room_end_;
  if (ring_ != nullptr) {
    place_limit_ = std::min(place_limit_, turn_->written.load(std::memory_order_acquire) +
                                              ring_->bytes() - tail_bytes());
  }
}

// Waits until the ring has room, or flushes it.
Result<void> LogWriter::wait_for_ring(std::unique_lock<BackoffMutex>& place,
                                      std::uint64_t frame_bytes) {
  const Stopwatch watch;
  const auto wanted = end_ + frame_bytes + tail_bytes() - ring_->bytes();
  place.unlock();
  Result<void> flushed;
  if (turn_->take({.written = wanted})) {
    const FlushTurn::Release release(*turn_);
    flushed = flush(Flush::whole_blocks);
  }
  observer_->ring_waits.record(watch.elapsed());
  place.lock();
  return flushed;
}

Result<void> LogWriter::make_room(std::unique_lock<BackoffMutex>& place,
                                  std::uint64_t frame_bytes) {
  place.unlock();
  const std::lock_guard growing(grow_mutex_);
  place.lock();
  if (turn_->failed.load()) {
    return failed();
  }
  if (end_ + frame_bytes <= room_end_) {
    update_place_limit();
    return {};
  }
  return grow(place, frame_bytes);
}

Result<void> LogWriter::grow(std::unique_lock<BackoffMutex>& place, std::uint64_t frame_bytes) {
  const auto needed = end_ - placing_.ring_base + frame_bytes + tail_bytes();
  // Without a ring nothing is placed in a file that has no name yet: it would not survive the
  // process.
  const bool waits_for_name = ring_ == nullptr && cut_;
  const bool has_records = chain_.next_sequence != placing_.first_sequence;
  if (waits_for_name || (needed > placing_.limit && has_records)) {
    return begin_segment(place, frame_bytes);
  }
  const auto from = placing_.allocated;
  const auto least = round_up(needed, block_bytes());
  const auto most = std::max(least, std::min(from + step_bytes_, placing_.limit));
  if (most > from) {
    const auto file = placing_.file;
    if (ring_ != nullptr) {
      place.unlock();  // without one, what is placed meanwhile is written, maybe behind the size
    }
    auto allocated = allocate_step(*file, from, least, most);
    observer_->note_space(SpaceNeed::placing, allocated);
    if (ring_ != nullptr) {
      place.lock();
    }
    if (!allocated) {
      return allocated.error().code == ErrorCode::no_space
                 ? std::unexpected(std::move(allocated).error())
                 : fail(std::move(allocated).error());
    }
    if (*allocated == most) {
      step_bytes_ = std::min(2 * step_bytes_, kStepBytesMax);
    }
    placing_.allocated = *allocated;
  }
  room_end_ = allocated_room();
  update_place_limit();
  return {};
}

Result<std::uint64_t> LogWriter::allocate_step(io::File& file, std::uint64_t from,
                                               std::uint64_t least, std::uint64_t most) {
  auto allocated = file.allocate(from, most - from);
  if (allocated) {
    return most;
  }
  if (allocated.error().code != ErrorCode::no_space || least == most || least <= from) {
    return std::unexpected(std::move(allocated).error());
  }
  // The rest of the disk is used up in small steps.
  step_bytes_ = kStepBytesMin;
  NORI_TRY(file.allocate(from, least - from));
  return least;
}

// Makes next.tmp with space for `most` bytes, or for `least`. With grow_mutex_.
Result<LogWriter::NextFile> LogWriter::prepare_next_file(std::uint64_t least, std::uint64_t most) {
  NextFile next;
  next.file = NORI_TRY(directory_.open(kNextSegmentName, io_.mode.access, io::Creation::replace));
  next.allocated = NORI_TRY(allocate_step(*next.file, 0, least, most));
  return next;
}

// The file that was prepared ahead, or one with space for `bytes`.
Result<void> LogWriter::open_next_file(std::uint64_t bytes, Placing& next) {
  next.limit = segment_bytes_;
  auto prepared = std::exchange(next_file_, std::nullopt);
  if (!prepared || prepared->allocated < bytes) {
    auto made = prepare_next_file(bytes, std::max(bytes, std::min(step_bytes_, next.limit)));
    observer_->note_space(SpaceNeed::placing, made);
    if (!made) {
      if (made.error().code != ErrorCode::no_space) {
        return fail(std::move(made).error());
      }
      static_cast<void>(directory_.remove(kNextSegmentName));
      return std::unexpected(std::move(made).error());
    }
    prepared = *std::move(made);
  }
  next.file = std::move(prepared->file);
  next.allocated = prepared->allocated;
  return {};
}

// Allocates the segment's next step, or prepares the next one's file, so that appends do not wait
// for it; once the log has grown, so that a small one stays small, and not where the disk is nearly
// full: what is tried there and given back is missing meanwhile. What fails here, fails again where
// it is needed.
void LogWriter::prepare_ahead() {
  // Who makes room meanwhile is not waited for: the ring would not be written out.
  const std::unique_lock growing(grow_mutex_, std::try_to_lock);
  if (!growing) {
    return;
  }
  std::unique_lock place(place_mutex_);
  const auto step_bytes_max = std::min(kStepBytesMax, segment_bytes_);
  const auto end = end_ - placing_.ring_base;
  const auto from = placing_.allocated;
  const auto to = std::min(from + step_bytes_, placing_.limit);
  const bool is_wanted = step_bytes_ >= step_bytes_max && !turn_->failed.load() &&
                         end + step_bytes_max / 2 >= from && (to > from || (!cut_ && !next_file_));
  const auto file = placing_.file;
  place.unlock();
  if (!is_wanted || directory_.free_bytes() < kStepsFreeMin * step_bytes_max) {
    return;
  }
  if (to > from) {
    if (file->allocate(from, to - from)) {
      place.lock();
      placing_.allocated = to;
      room_end_ = allocated_room();
      update_place_limit();
      return;
    }
  } else {
    const auto bytes = std::min(step_bytes_, segment_bytes_);
    if (auto made = prepare_next_file(bytes, bytes); made) {
      next_file_ = *std::move(made);
      return;
    }
    static_cast<void>(directory_.remove(kNextSegmentName));
  }
  step_bytes_ = kStepBytesMin;  // not again before appends have found room for as much
}

// Ends the placing segment in a rotation frame and goes on in a new one, with room for a frame.
Result<void> LogWriter::begin_segment(std::unique_lock<BackoffMutex>& place,
                                      std::uint64_t frame_bytes) {
  // One at a time: the one before has to have its name.
  while (cut_) {
    place.unlock();
    auto passed = with_turn(Flush::whole_blocks);
    place.lock();
    NORI_TRY(std::move(passed));
    if (ring_ == nullptr) {
      // A cut that could not be passed for want of space, and now was.
      room_end_ = allocated_room();
      update_place_limit();
      return {};
    }
  }
  Placing next;
  place.unlock();
  auto opened =
      open_next_file(round_up(block_bytes() + frame_bytes + tail_bytes(), block_bytes()), next);
  place.lock();
  NORI_TRY(std::move(opened));

  RotationPayload rotation{.next_segment_id = placing_.id + 1, .next_offset = block_bytes()};
  const auto offset = end_ - placing_.ring_base;
  const auto rotation_end =
      placing_.ring_base +
      round_up(offset + kFrameHeaderBytes + kRotationPayloadBytes, block_bytes());
  rotation.next_ring_base = rotation_end - block_bytes();
  std::array<std::byte, kRotationPayloadBytes> payload;
  encode_rotation(rotation, payload.data());
  NORI_TRY(place_filler(FrameKind::rotation, payload));

  next.id = rotation.next_segment_id;
  next.ring_base = rotation.next_ring_base;
  next.seed = segment_seed(log_id_, 0, next.id);
  next.first_sequence = chain_.next_sequence;
  Cut cut;
  cut.address = end_;
  cut.next.log_id = log_id_;
  cut.next.first_segment = cut.next.last_segment = next.id;
  cut.next.first_sequence = chain_.next_sequence;
  cut.next.epoch = chain_.epoch;
  cut.next.durable_mark = chain_.next_sequence;
  cut.next.created_ms = chain_.time_ms;
  cut.next.first_offset = rotation.next_offset;
  cut.next.ring_base = rotation.next_ring_base;
  cut.summary = summary_.summary();
  cut.next_file = next.file;
  cut_ = std::move(cut);
  summary_ = SummaryBuilder(chain_.next_sequence);
  placing_ = std::move(next);
  ++rotations_;
  room_end_ = allocated_room();
  if (ring_ == nullptr) {
    // What is appended next has to survive the process, so its file needs its name first. Until
    // then there is no room.
    room_end_ = 0;
    update_place_limit();
    place.unlock();
    auto passed = with_turn(Flush::whole_blocks);
    place.lock();
    NORI_TRY(std::move(passed));
    room_end_ = allocated_room();
  }
  update_place_limit();
  return {};
}

Result<void> LogWriter::rotate() {
  {
    const std::lock_guard growing(grow_mutex_);
    std::unique_lock place(place_mutex_);
    if (turn_->failed.load()) {
      return failed();
    }
    if (chain_.next_sequence != placing_.first_sequence) {
      NORI_TRY(begin_segment(place, 0));
    } else if (!cut_) {
      return {};
    }
  }
  return with_turn(Flush::whole_blocks);
}

// A frame too large for the ring: drains it, and goes to the segment at once.
Result<Appended> LogWriter::append_straight(const FrameBody& body, bool may_wait) {
  std::unique_lock growing(grow_mutex_, std::defer_lock);
  if (may_wait) {
    growing.lock();
  } else if (!growing.try_lock()) {
    return make_error(ErrorCode::busy, "{}: the log is making room; try again, or append and wait",
                      directory_.path().string());
  }
  // With what a durable flush may pad before the turn is taken.
  const auto frame_bytes = body.frame_bytes();
  const auto room_bytes = frame_bytes + 2 * block_bytes();
  std::unique_lock place(place_mutex_);
  while (end_ + room_bytes > room_end_) {
    if (turn_->failed.load()) {
      return failed();
    }
    NORI_TRY(grow(place, room_bytes));
  }
  const auto room_end = std::exchange(room_end_, 0);  // others wait for grow_mutex_
  update_place_limit();
  place.unlock();

  auto result = [&]() -> Result<Appended> {
    if (!turn_->take({})) {
      return failed();
    }
    const FlushTurn::Release release(*turn_);
    NORI_TRY(flush(Flush::whole_blocks));
    const auto payload_crc32c = body.payload_crc32c();
    place.lock();
    const auto header = next_header(body.record_count(), body.payload_bytes(), payload_crc32c,
                                    file_system_.now_ms());
    place.unlock();
    NORI_TRY(write_straight(header, body));
    const std::lock_guard placing(place_mutex_);
    advance(header);
    count(header);
    auto done = appended_at(placing_.id, end_ - placing_.ring_base, header);
    if (const auto payload_bytes = padding_payload_bytes(end_ - placing_.ring_base, block_bytes());
        payload_bytes) {
      const auto padding = padding_header(chain_, *payload_bytes, header.durable_mark);
      advance(padding);
      bytes_padding_ += padding.frame_bytes();
    }
    turn_->written.store(end_);
    return done;
  }();
  place.lock();
  room_end_ = result && frame_bytes > segment_bytes_ ? end_ : std::min(room_end, allocated_room());
  update_place_limit();
  const bool wake = wants_background();
  place.unlock();
  if (wake) {
    background_->wake();
  }
  return result;
}

// The block that the frame begins in, the frame, and padding to a block's end: all whole blocks, so
// that nothing of it has to be in the ring. The first block, which the frame does not end in, is
// written last: nobody sees a frame that comes to be refused.
Result<void> LogWriter::write_straight(const FrameHeader& header, const FrameBody& body) {
  const auto offset = end_ - flushing_.ring_base;
  const auto first_block = round_down(offset, block_bytes());
  const auto second_block = first_block + block_bytes();
  const auto [head, none] = ring_->pieces(flushing_.ring_base + first_block, offset - first_block);
  encode_frame_header(header, place_seed(placing_.seed, offset), body.header());
  auto chain = chain_;
  chain.advance(header);

  const auto written = [&]() -> Result<void> {
    AlignedBuffer first(block_bytes());
    std::size_t filled = 0;
    BlockWriter rest(*flushing_.file, second_block, block_bytes());
    const auto write = [&](ByteView bytes) {
      const auto fits = std::min(bytes.size(), first.size() - filled);
      std::copy_n(bytes.data(), fits, first.data() + filled);
      filled += fits;
      return rest.write(bytes.subspan(fits));
    };
    NORI_TRY(write(head));
    NORI_TRY(write(body.front()));
    for (const auto piece : body.rest()) {
      NORI_TRY(write(piece));
    }
    if (const auto payload_bytes = padding_payload_bytes(rest.offset(), block_bytes());
        payload_bytes) {
      const auto padding = padding_header(chain, *payload_bytes, header.durable_mark);
      std::array<std::byte, kFrameHeaderBytes> bytes;
      encode_frame_header(padding, place_seed(placing_.seed, rest.offset()), bytes.data());
      NORI_TRY(rest.write(bytes));
      NORI_TRY(rest.write_zeros(*payload_bytes));
    }
    NORI_TRY(rest.finish());
    return flushing_.file->write_at(first_block, first.span(), {}, false);
  }();
  flushing_.unsynced = true;
  observer_->note_space(SpaceNeed::placing, written);
  if (written) {
    return {};
  }
  if (written.error().code != ErrorCode::no_space) {
    return fail(written.error());
  }
  const std::lock_guard place(place_mutex_);
  NORI_TRY(cut_back(*flushing_.file, second_block));
  return written;
}

// Fills blocks with zeros ahead of the end and syncs them, so that a durable write into them is not
// followed by a journal commit. No frame is placed there meanwhile, so that no two writes meet.
void LogWriter::zero_ahead() {
  if (!zero_wanted_.load(std::memory_order_relaxed)) {
    return;
  }
  const std::lock_guard growing(grow_mutex_);
  std::unique_lock place(place_mutex_);
  const auto base = placing_.ring_base;
  const auto keep_clear = std::max(kZeroStepBytesMin / 4, tail_bytes());
  const auto from = std::max(round_up(end_ - base + keep_clear, block_bytes()),
                             zeroed_end_.load() - std::min(zeroed_end_.load(), base));
  const auto to =
      std::min(from + zero_step_bytes_.load(), round_down(placing_.limit, block_bytes()));
  const auto allocated = placing_.allocated;
  if (turn_->failed.load() || from >= to || from > allocated) {
    zero_wanted_.store(false);
    return;
  }
  const auto file = placing_.file;
  const auto name = segment_name(placing_.id);
  room_end_ = std::min(room_end_, base + from - tail_bytes());
  update_place_limit();
  place.unlock();
  const auto filled = [&]() -> Result<void> {
    if (to > allocated) {
      NORI_TRY(file->allocate(allocated, to - allocated));
    }
    return write_zeros(*file, name, from, to);
  }();
  place.lock();
  if (filled) {
    placing_.allocated = std::max(allocated, to);
    zeroed_end_.store(base + to);
    zero_step_bytes_.store(std::min(2 * zero_step_bytes_.load(), kZeroStepBytesMax));
  } else if (filled.error().code != ErrorCode::no_space) {
    static_cast<void>(fail(filled.error()));
  }
  room_end_ = base + placing_.allocated - tail_bytes();
  update_place_limit();
  zero_wanted_.store(false);
}

Result<void> LogWriter::write_zeros(io::File& file, std::string_view name, std::uint64_t from,
                                    std::uint64_t to) {
  AlignedBuffer zeros(kZeroWriteBytes);
  std::memset(zeros.data(), 0, zeros.size());
  for (auto offset = from; offset < to; offset += kZeroWriteBytes) {
    NORI_TRY(file.write_at(offset, zeros.span().first(std::min(kZeroWriteBytes, to - offset)), {},
                           false));
  }
  if (auto synced = observer_->timed_sync(name, [&] { return file.sync(); }); !synced) {
    auto error = std::move(synced).error();
    error.code = ErrorCode::io;  // no write, so not to be tried again
    return std::unexpected(std::move(error));
  }
  return {};
}

WalkPoint LogWriter::end() const {
  const std::lock_guard place(place_mutex_);
  return {.place = {.segment_id = placing_.id,
                    .offset = end_ - placing_.ring_base,
                    .ring_base = placing_.ring_base},
          .chain = chain_};
}

void LogWriter::add_stats(WalStats& stats) const {
  stats.durable_sequence = turn_->durable.load();  // before the end, so as not to be beyond it
  {
    const std::lock_guard place(place_mutex_);
    stats.active_segment_id = placing_.id;
    stats.appends = appends_.load();
    stats.next_sequence = chain_.next_sequence;
    stats.records_appended = chain_.next_sequence - first_sequence_;
    stats.bytes_appended = end_ - first_address_ - bytes_padding_;
    stats.bytes_padding = bytes_padding_;
    stats.rotations = rotations_;
    stats.ring_bytes_used = end_ - turn_->written.load();
  }
  stats.ring_bytes = ring_ == nullptr ? 0 : ring_->bytes();
  stats.flushes = flushes_.load();
  stats.failure = failure();
}

}  // namespace nori
