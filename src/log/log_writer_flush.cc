// The flush side: from the ring to the disk, from one segment to the next, and the thread that does
// so when nobody else does. log_writer.cc is the other side.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <utility>

#include "base/make_error.h"
#include "base/try.h"
#include "log/log_writer.h"
#include "log/padding_frame.h"
#include "segment/aligned_buffer.h"
#include "segment/segment_files.h"
#include "segment/segment_name.h"

namespace nori {
namespace {

using Clock = BackgroundTask::Clock;

// Large enough for the disk's full rate with one write at a time.
constexpr std::uint64_t kWriteBytesMax = kMiB;
// The background writes once this much is in the ring, if nobody asks before.
constexpr std::uint64_t kWriteBehindBytes = kMiB;
// After an error that may pass.
constexpr std::chrono::milliseconds kRetryAfter{20};
// Durable writes no larger than this are waited for: blocks are filled with zeros ahead of them, so
// that such a write is not followed by a journal commit. (bench: row durable-1) The journal commit
// costs less where more is written (docs/performance.md#async).
constexpr std::uint64_t kSmallFlushBytes = 128 * kKiB;

}  // namespace

// --- with the turn -------------------------------------------------------------------------------

// Flushes what is placed when it begins: all of it and durable, or its whole blocks.
Result<void> LogWriter::flush(Flush kind) {
  const Stopwatch watch;
  auto flushed = flush_placed(kind);
  observer_->note_space(SpaceNeed::flushing, flushed);
  if (flushed && kind == Flush::durable) {
    observer_->flushes.record(watch.elapsed());
  }
  return flushed;
}

Result<void> LogWriter::flush_placed(Flush kind) {
  std::uint64_t end = 0;
  Sequence sequence = 0;
  {
    const std::lock_guard place(place_mutex_);
    if (turn_->failed.load()) {
      return failed();
    }
    if (kind == Flush::durable && padding_ == Padding::block) {
      NORI_TRY(pad());
    }
    end = end_;
    sequence = chain_.next_sequence;
  }
  if (kind == Flush::whole_blocks) {
    return write_out(round_down(end, block_bytes()), kind);
  }
  flushes_.fetch_add(1, std::memory_order_relaxed);
  if (ring_ == nullptr) {
    NORI_TRY(check_file(end));
  }
  NORI_TRY(write_out(round_down(end, block_bytes()), kind));
  if (ring_ != nullptr) {
    NORI_TRY(write_last_block(end));
  }
  if (flushing_.unsynced || ring_ == nullptr) {
    NORI_TRY(sync_file());
  }
  set_durable(sequence, end);
  return {};
}

// Writes the ring up to `target`, a block's end, from one segment into the next.
Result<void> LogWriter::write_out(std::uint64_t target, Flush kind) {
  for (;;) {
    const auto from = turn_->written.load(std::memory_order_relaxed);
    const auto cut = cut_address();
    if (cut && from == *cut) {
      NORI_TRY(pass_cut());
      continue;
    }
    if (from >= target) {
      return {};
    }
    NORI_TRY(check_file(from));
    const auto to = std::min({target, from + kWriteBytesMax, cut.value_or(target)});
    // A write that carries itself to the disk, where it is the only one.
    const bool dsync = kind == Flush::durable && is_direct() && !flushing_.unsynced && to == target;
    const auto [first, second] = ring_->pieces(from, to - from);
    const auto write = [&] {
      return flushing_.file->write_at(from - flushing_.ring_base, first, second, dsync);
    };
    auto written = dsync ? observer_->timed_sync(segment_name(flushing_.id), write) : write();
    if (!written) {
      // A full disk here is one that breaks its promise of allocated space: the bytes stay in the
      // ring, to be written again.
      return written.error().code == ErrorCode::no_space ? written
                                                         : fail(std::move(written).error());
    }
    flushing_.unsynced = flushing_.unsynced || !dsync;
    turn_->written.store(to, std::memory_order_release);
    turn_->wake_settled();
    if (dsync && to - from <= kSmallFlushBytes &&
        to + zero_step_bytes_.load() / 4 > zeroed_end_.load() && background_ != nullptr &&
        !zero_wanted_.exchange(true)) {
      background_->wake();
    }
  }
}

// Whether the segment is still what this log has written. What goes to a file that somebody removed
// reaches the disk, and is lost. Below 1 % of the smallest durable write.
Result<void> LogWriter::check_file(std::uint64_t written) {
  auto status = flushing_.file->status();
  if (!status) {
    return fail(std::move(status).error());
  }
  const bool is_short = status->bytes < written - flushing_.ring_base;
  if (status->has_name && !is_short) {
    return {};
  }
  return fail(
      Error{.code = ErrorCode::io,
            .message = fmt::format("{}: somebody has {} it while the log was writing to it",
                                   (directory_.path() / segment_name(flushing_.id)).string(),
                                   status->has_name ? "cut" : "removed or replaced")});
}

// Padding::none: the block that the log ends in, from a private copy. Written again by the next
// flush.
Result<void> LogWriter::write_last_block(std::uint64_t end) {
  const auto from = round_down(end, block_bytes());
  if (from == end) {
    return {};
  }
  NORI_TRY(check_file(from));
  AlignedBuffer block(block_bytes());
  const auto [bytes, none] = ring_->pieces(from, end - from);
  std::memcpy(block.data(), bytes.data(), bytes.size());
  std::memset(block.data() + bytes.size(), 0, block.size() - bytes.size());
  const bool dsync = is_direct() && !flushing_.unsynced;
  const auto write = [&] {
    return flushing_.file->write_at(from - flushing_.ring_base, block.span(), {}, dsync);
  };
  auto written = dsync ? observer_->timed_sync(segment_name(flushing_.id), write) : write();
  if (!written) {
    return written.error().code == ErrorCode::no_space ? written : fail(std::move(written).error());
  }
  flushing_.unsynced = flushing_.unsynced || !dsync;
  return {};
}

Result<void> LogWriter::sync_file() {
  if (auto synced =
          observer_->timed_sync(segment_name(flushing_.id), [&] { return flushing_.file->sync(); });
      !synced) {
    return fail(std::move(synced).error());
  }
  flushing_.unsynced = false;
  return {};
}

Result<void> LogWriter::sync_directory() {
  auto synced = observer_->timed_sync(".", [&] { return directory_.sync(); });
  return synced ? Result<void>{} : fail(std::move(synced).error());
}

std::unexpected<Error> LogWriter::fail(Error error) {
  {
    const std::lock_guard mark(mark_mutex_);
    if (!failure_) {
      // Linux reports a failed write-back once; a second fdatasync may succeed without the data.
      error.code = ErrorCode::io;
      error.message += "; the log takes no more appends: close it and open it again";
      failure_ = std::move(error);
      observer_->events.post(LogFailed{.error = *failure_});
    }
  }
  // Who is to have the turn next may see this and go without it: then nobody else would wake the
  // others.
  turn_->failed.store(true);
  turn_->wake_settled();
  return failed();
}

std::unexpected<Error> LogWriter::failed() const {
  const std::lock_guard mark(mark_mutex_);
  return std::unexpected(*failure_);
}

std::optional<Error> LogWriter::failure() const {
  const std::lock_guard mark(mark_mutex_);
  return failure_;
}

Position LogWriter::durable_position() const {
  const std::lock_guard mark(mark_mutex_);
  return durable_position_;
}

std::uint64_t LogWriter::named_segment_id() const { return flushing_id_.load(); }

std::optional<std::uint64_t> LogWriter::cut_address() const {
  const std::lock_guard place(place_mutex_);
  return cut_ ? std::optional(cut_->address) : std::nullopt;
}

// From a segment whose last byte was written to the next: its frames become durable, then the next
// file's header and name, then its footer.
Result<void> LogWriter::pass_cut() {
  Cut* cut = nullptr;
  {
    const std::lock_guard place(place_mutex_);
    cut = &*cut_;
  }
  if (flushing_.unsynced || ring_ == nullptr) {
    NORI_TRY(sync_file());
  }
  set_durable(cut->next.first_sequence, cut->address);
  const auto retry_or_fail = [this](Error error) {
    return error.code == ErrorCode::no_space ? std::unexpected(std::move(error))
                                             : fail(std::move(error));
  };
  if (auto written = write_segment_header(*cut->next_file, cut->next); !written) {
    return retry_or_fail(std::move(written).error());
  }
  if (auto synced = observer_->timed_sync(segment_name(cut->next.first_segment),
                                          [&] { return cut->next_file->sync(); });
      !synced) {
    return fail(std::move(synced).error());
  }
  if (auto renamed = directory_.rename(kNextSegmentName, segment_name(cut->next.first_segment));
      !renamed) {
    return retry_or_fail(std::move(renamed).error());
  }
  NORI_TRY(sync_directory());

  const auto sealed = std::exchange(
      flushing_,
      {.id = cut->next.first_segment, .ring_base = cut->next.ring_base, .file = cut->next_file});
  flushing_id_.store(flushing_.id);
  cut->summary.durable_mark = cut->next.first_sequence;
  const auto summary = std::move(cut->summary);
  {
    const std::lock_guard place(place_mutex_);
    cut_.reset();
  }
  observer_->events.post(SegmentRotated{.sealed_segment_id = sealed.id,
                                        .segment_id = flushing_.id,
                                        .first_sequence = summary.durable_mark});
  on_rotation_();
  auto footer = write_footer(*sealed.file, summary, segment_seed(log_id_, 0, sealed.id), io_.mode);
  // A segment without a footer is whole: opening the log reads its frames instead.
  return footer || footer.error().code == ErrorCode::no_space ? Result<void>{}
                                                              : fail(std::move(footer).error());
}

void LogWriter::set_durable(Sequence sequence, std::uint64_t address) {
  if (sequence < turn_->durable.load(std::memory_order_relaxed)) {
    return;
  }
  {
    const std::lock_guard mark(mark_mutex_);
    durable_position_ = {
        .segment_id = flushing_.id, .offset = address - flushing_.ring_base, .sequence = sequence};
    // Within: whoever was told the one finds no less in the other.
    turn_->durable.store(sequence, std::memory_order_release);
  }
  if (ring_ != nullptr) {
    ring_->set_mark({.durable_mark = sequence, .segment_id = flushing_.id});
  }
}

Result<void> LogWriter::with_turn(Flush kind) {
  if (!turn_->take({})) {
    return failed();
  }
  const FlushTurn::Release release(*turn_);
  return flush(kind);
}

Result<void> LogWriter::commit(Sequence target) {
  if (turn_->durable.load(std::memory_order_acquire) >= target) {
    return {};
  }
  const Stopwatch watch;
  auto durable = wait_durable(target);
  if (durable) {
    observer_->durable_waits.record(watch.elapsed());
  }
  return durable;
}

Result<void> LogWriter::wait_durable(Sequence target) {
  // More than once only if others flush in between: a flush of one's own covers the target.
  while (turn_->durable.load(std::memory_order_acquire) < target) {
    if (!turn_->take({.durable = target})) {
      if (turn_->durable.load(std::memory_order_acquire) >= target) {
        break;
      }
      return failed();
    }
    const FlushTurn::Release release(*turn_);
    NORI_TRY(flush(Flush::durable));
  }
  return {};
}

Result<void> LogWriter::close() {
  if (background_ != nullptr) {
    background_->end();
  }
  if (!turn_->take({})) {
    return failed();
  }
  const FlushTurn::Release release(*turn_);
  return write_close_frame();
}

Result<void> LogWriter::write_close_frame() {
  NORI_TRY(flush(Flush::durable));
  {
    const std::lock_guard place(place_mutex_);
    if (end_ != round_up(end_, block_bytes())) {
      NORI_TRY(pad());  // Padding::none
    }
  }
  NORI_TRY(write_out(end_, Flush::durable));

  const std::lock_guard place(place_mutex_);
  const auto offset = end_ - placing_.ring_base;
  auto header = next_header(0, block_bytes() - kFrameHeaderBytes, 0, file_system_.now_ms());
  header.kind = FrameKind::close;
  header.durable_mark = chain_.next_sequence;
  AlignedBuffer block(block_bytes());
  std::memset(block.data(), 0, block.size());
  auto summary = summary_.summary();
  summary.durable_mark = chain_.next_sequence;
  summary.end_offset = offset;
  thin_index(summary, header.payload_bytes);
  const auto bytes = encode_summary(summary);
  std::memcpy(block.data() + kFrameHeaderBytes, bytes.data(), bytes.size());
  header.payload_crc32c = crc32c(0, block.span().subspan(kFrameHeaderBytes));
  encode_frame_header(header, place_seed(placing_.seed, offset), block.data());
  if (auto written = flushing_.file->write_at(offset, block.span(), {}, false); !written) {
    return fail(std::move(written).error());
  }
  NORI_TRY(sync_file());
  advance(header);
  if (auto cut = flushing_.file->truncate(end_ - placing_.ring_base); !cut) {
    return fail(std::move(cut).error());
  }
  NORI_TRY(sync_file());
  if (ring_ != nullptr) {
    if (std::exchange(next_file_, std::nullopt)) {
      static_cast<void>(directory_.remove(kNextSegmentName));  // else the next opening does
    }
    if (auto removed = directory_.remove(kRingName); !removed) {
      return fail(std::move(removed).error());
    }
    NORI_TRY(sync_directory());
  }
  return {};
}

// --- in the background ---------------------------------------------------------------------------

void LogWriter::start_background(std::shared_ptr<BackgroundThreads> threads) {
  if (threads == nullptr) {
    threads = std::make_shared<BackgroundThreads>(1);
  }
  background_ =
      std::make_unique<BackgroundTask>(std::move(threads), [this] { return background_step(); });
  background_->wake();
}

// Does what is due, and answers when something else will be.
std::optional<Clock::time_point> LogWriter::background_step() {
  const auto write_behind = ring_ == nullptr ? 0 : std::min(kWriteBehindBytes, ring_->bytes() / 4);
  bool writes_behind = false;
  {
    const std::lock_guard place(place_mutex_);
    const bool undurable = chain_.next_sequence > turn_->durable.load();
    if (fsync_.kind() != FsyncPolicy::Kind::batch || !undurable) {
      window_end_.reset();
    } else if (!window_end_) {
      window_end_ = Clock::now() + fsync_.window();
    }
    const auto written = turn_->written.load();
    writes_behind = ring_ != nullptr && end_ - written >= write_behind;
    wake_address_ = ring_ == nullptr ? FlushTurn::kNever : written + write_behind;
    if (fsync_.kind() == FsyncPolicy::Kind::batch && !window_end_) {
      wake_address_ = end_ + 1;
    }
  }
  if (turn_->failed.load()) {
    observer_->events.deliver();
    return std::nullopt;
  }
  const auto now = Clock::now();
  if (now < retry_at_) {
    return std::max(retry_at_, window_end_.value_or(retry_at_));
  }
  const bool is_due = window_end_ && now >= *window_end_;
  bool has_failed = false;
  try {
    if (is_due) {
      window_end_.reset();
      has_failed = !with_turn(Flush::durable);
    } else if (writes_behind) {
      has_failed = !with_turn(Flush::whole_blocks);
      prepare_ahead();
    } else {
      zero_ahead();
    }
  } catch (const std::bad_alloc&) {
    has_failed = true;
  }
  if (ring_ != nullptr && turn_->written.load() - populated_at_ >= ring_->bytes() / 2) {
    populated_at_ = turn_->written.load();
    ring_->populate();
  }
  observer_->events.deliver();
  if (has_failed) {
    retry_at_ = Clock::now() + kRetryAfter;
    return retry_at_;
  }
  return is_due || writes_behind ? std::optional(now) : window_end_;
}

}  // namespace nori
