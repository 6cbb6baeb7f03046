// The log being written: where appends take their place, and how they get from the ring to the
// disk.
//
// An append's path:
//
//   append    takes place_mutex_ for a copy: its place, sequence, checksum and bytes, in the ring
//   flush     the thread that has the turn writes the ring's whole blocks to their segment; a flush
//             for durability first fills the last block with a padding frame
//   mark      moves, once those bytes are durable; whoever waited for it is woken
//
// Locks, outermost first: grow_mutex_ (more room: allocation, the next segment), the turn (all
// writes of frames and all syncs), place_mutex_ (the end of the log). Only the first two are held
// over I/O; without a ring the third is too, because then an append is a write.
//
// Invariants:
//   - ring addresses (log/append_ring.h): written <= end <= written + ring size
//   - the bytes before `end` do not change, apart from the last block under Padding::none
//   - a frame is placed only where space is allocated for it and for what may follow it without
//     asking: a padding frame and a rotation or close frame (tail_bytes())
//   - a segment's file gets its name once all frames before it are durable

#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>

#include "base/backoff_mutex.h"
#include "format/frame.h"
#include "io/file_system.h"
#include "log/append_ring.h"
#include "log/background_task.h"
#include "log/flush_turn.h"
#include "log/frame_body.h"
#include "log/frame_walker.h"
#include "log/io_choice.h"
#include "log/log_scan.h"
#include "nori/error.h"
#include "nori/options.h"
#include "nori/wal.h"
#include "observe/observer.h"
#include "segment/summary_builder.h"

namespace nori {

/// One epoch of a log: from the opening frame, which begin() writes, to the close frame.
///
/// Threads: any member from any thread, close() and destruction apart.
class LogWriter {
 public:
  /// Begins an epoch behind a recovered log's end: makes the ring and writes the opening frame,
  /// which is durable on return. `epoch_bits` are random, and the same when it is tried again.
  /// The objects referred to outlive the writer. `on_rotation` is called within a turn, when a
  /// segment has its name. Errors: `no_space`, `io`: the log holds what it held; try again, with
  /// `recovered`, which says whether it still ends in its close frame.
  [[nodiscard]] static Result<std::unique_ptr<LogWriter>> begin(
      io::FileSystem& file_system, io::Directory& directory, LogScan& recovered,
      std::uint64_t epoch_bits, const IoChoice& io, const WalOptions& options,
      std::shared_ptr<FlushTurn> turn, std::shared_ptr<Observer> observer,
      std::function<void()> on_rotation);
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  /// Places a frame. On return it survives the process. Errors as Wal::append's; `busy` only
  /// without `may_wait`.
  [[nodiscard]] Result<Appended> append(const FrameBody& body, bool may_wait);

  /// Whether the next append is one of those that are timed. Beside other threads a few more are.
  [[nodiscard]] bool times_next_append() const noexcept {
    return appends_.load(std::memory_order_relaxed) % kAppendsPerTimed == 0;
  }

  /// On return everything before `target`, which is not beyond the end, is durable.
  /// Errors: `no_space`: not yet; `io`: the log has failed.
  [[nodiscard]] Result<void> commit(Sequence target);

  /// Ends the active segment, if it holds a record, and begins the next.
  [[nodiscard]] Result<void> rotate();

  /// Makes everything durable, writes the close frame and removes the ring.
  [[nodiscard]] Result<void> close();

  [[nodiscard]] WalkPoint end() const;
  [[nodiscard]] Position durable_position() const;
  /// The newest segment that has its name.
  [[nodiscard]] std::uint64_t named_segment_id() const;
  [[nodiscard]] std::optional<Error> failure() const;
  /// Adds what the writer knows to `stats`.
  void add_stats(WalStats& stats) const;

 private:
  // The segment that frames are placed in. Guarded by place_mutex_.
  struct Placing {
    std::uint64_t id = 0;
    std::uint64_t ring_base = 0;
    std::uint32_t seed = 0;
    Sequence first_sequence = 0;
    std::uint64_t limit = 0;      ///< Offset that frames should not pass.
    std::uint64_t allocated = 0;  ///< Offset up to which there is space.
    std::shared_ptr<io::File> file;
  };
  // Where one segment ends and the next, which has no name yet, begins.
  struct Cut {
    std::uint64_t address = 0;
    SegmentHeader next;
    SegmentSummary summary;
    std::shared_ptr<io::File> next_file;
  };
  // next.tmp, with space.
  struct NextFile {
    std::shared_ptr<io::File> file;
    std::uint64_t allocated = 0;
  };
  // The segment that is being flushed. Belongs to the turn.
  struct Flushing {
    std::uint64_t id = 0;
    std::uint64_t ring_base = 0;
    std::shared_ptr<io::File> file;
    bool unsynced = false;  ///< Something was written that no sync or DSYNC write has covered.
  };

  LogWriter(io::FileSystem& file_system, io::Directory& directory, const IoChoice& io,
            const WalOptions& options, const LogId& log_id, std::shared_ptr<FlushTurn> turn,
            std::shared_ptr<Observer> observer, std::function<void()> on_rotation);

  [[nodiscard]] std::uint64_t block_bytes() const noexcept { return io_.mode.block_bytes; }
  [[nodiscard]] std::uint64_t tail_bytes() const noexcept;
  /// The address up to which frames fit into what is allocated.
  [[nodiscard]] std::uint64_t allocated_room() const noexcept;
  [[nodiscard]] bool is_direct() const noexcept {
    return io_.mode.access == io::Access::write_direct;
  }

  [[nodiscard]] Result<void> write_opening(LogScan& recovered, std::uint64_t epoch_bits);
  void start_background(std::shared_ptr<BackgroundThreads> threads);
  [[nodiscard]] std::optional<BackgroundTask::Clock::time_point> background_step();

  // With place_mutex_.
  /// The header of what is placed next: of records, unless its kind is changed.
  [[nodiscard]] FrameHeader next_header(std::uint64_t record_count, std::uint64_t payload_bytes,
                                        std::uint32_t payload_crc32c, std::uint64_t now_ms) const;
  [[nodiscard]] Result<void> place_filler(FrameKind kind, ByteView payload_front);
  [[nodiscard]] Result<void> pad();
  [[nodiscard]] Result<void> store(const FrameHeader& header, const FrameBody& body,
                                   std::uint64_t zeros_behind);
  [[nodiscard]] Result<void> store_in_file(const FrameBody& body, std::uint64_t zeros_behind);
  void advance(const FrameHeader& header);
  void count(const FrameHeader& header);
  void update_place_limit();
  [[nodiscard]] bool wants_background() noexcept;

  // Called with place_mutex_ in `place`; let it go meanwhile.
  [[nodiscard]] Result<void> wait_for_place(std::unique_lock<BackoffMutex>& place,
                                            std::uint64_t frame_bytes, bool may_wait);
  [[nodiscard]] Result<void> wait_for_ring(std::unique_lock<BackoffMutex>& place,
                                           std::uint64_t frame_bytes);
  [[nodiscard]] Result<void> make_room(std::unique_lock<BackoffMutex>& place,
                                       std::uint64_t frame_bytes);
  // The same, with grow_mutex_ too.
  [[nodiscard]] Result<void> grow(std::unique_lock<BackoffMutex>& place, std::uint64_t frame_bytes);
  [[nodiscard]] Result<void> begin_segment(std::unique_lock<BackoffMutex>& place,
                                           std::uint64_t frame_bytes);
  [[nodiscard]] Result<void> cut_back(io::File& file, std::uint64_t end);
  [[nodiscard]] Result<void> open_next_file(std::uint64_t bytes, Placing& next);
  [[nodiscard]] Result<NextFile> prepare_next_file(std::uint64_t least, std::uint64_t most);
  void prepare_ahead();
  /// Allocates [from, most), or [from, least) on a disk that lacks the space. Returns the end. With
  /// grow_mutex_ held.
  [[nodiscard]] Result<std::uint64_t> allocate_step(io::File& file, std::uint64_t from,
                                                    std::uint64_t least, std::uint64_t most);

  [[nodiscard]] Result<void> check_size(const FrameBody& body) const;
  [[nodiscard]] Result<Appended> append_straight(const FrameBody& body, bool may_wait);
  [[nodiscard]] Result<void> write_straight(const FrameHeader& header, const FrameBody& body);
  void zero_ahead();
  [[nodiscard]] Result<void> write_zeros(io::File& file, std::string_view name, std::uint64_t from,
                                         std::uint64_t to);

  // With the turn.
  enum class Flush : std::uint8_t { whole_blocks, durable };
  [[nodiscard]] Result<void> flush(Flush kind);
  [[nodiscard]] Result<void> flush_placed(Flush kind);
  [[nodiscard]] Result<void> write_out(std::uint64_t target, Flush kind);
  [[nodiscard]] Result<void> check_file(std::uint64_t written);
  [[nodiscard]] Result<void> write_last_block(std::uint64_t end);
  [[nodiscard]] Result<void> sync_file();
  [[nodiscard]] std::optional<std::uint64_t> cut_address() const;
  [[nodiscard]] Result<void> pass_cut();
  [[nodiscard]] Result<void> write_close_frame();
  [[nodiscard]] Result<void> sync_directory();
  [[nodiscard]] Result<void> wait_durable(Sequence target);
  void set_durable(Sequence sequence, std::uint64_t address);
  [[nodiscard]] Result<void> with_turn(Flush kind);

  // A failed write or sync: the log takes no more appends. Returns the error.
  std::unexpected<Error> fail(Error error);
  [[nodiscard]] std::unexpected<Error> failed() const;

  static constexpr std::uint64_t kAppendsPerTimed = 64;

  io::FileSystem& file_system_;
  io::Directory& directory_;
  const std::shared_ptr<Observer> observer_;
  const std::function<void()> on_rotation_;
  const IoChoice io_;
  const FsyncPolicy fsync_;
  const Padding padding_;
  const std::uint64_t segment_bytes_;
  const LogId log_id_;
  std::unique_ptr<AppendRing> ring_;
  // A larger frame goes past the ring; without one, it may be too large.
  std::uint64_t large_bytes_ = kRecordsPerFrameMax;

  std::mutex grow_mutex_;
  std::uint64_t step_bytes_;           ///< Of the next allocation. Guarded by grow_mutex_.
  std::optional<NextFile> next_file_;  ///< Prepared ahead. Guarded by grow_mutex_.

  const std::shared_ptr<FlushTurn> turn_;
  Flushing flushing_;
  std::atomic<std::uint64_t> flushing_id_{0};

  mutable BackoffMutex place_mutex_;
  FrameChain chain_;
  std::uint64_t end_ = 0;          ///< Address behind the last frame.
  std::uint64_t room_end_ = 0;     ///< Frames may be placed up to here: allocated.
  std::uint64_t place_limit_ = 0;  ///< And up to here: also free in the ring, when last looked.
  std::uint64_t wake_address_ = FlushTurn::kNever;  ///< The background is woken at this end.
  Placing placing_;
  SummaryBuilder summary_;
  std::optional<Cut> cut_;                 ///< Set with place_mutex_, reset with that and the turn.
  std::atomic<std::uint64_t> appends_{0};  ///< Set with place_mutex_.
  Sequence first_sequence_ = 0;            ///< Of this opening.
  std::uint64_t first_address_ = 0;        ///< Behind its opening frame.
  std::uint64_t bytes_padding_ = 0;
  std::uint64_t rotations_ = 0;

  // How far ahead of the end blocks were filled with zeros, as an address; set with grow_mutex_.
  std::atomic<std::uint64_t> zeroed_end_{0};
  std::atomic<bool> zero_wanted_{false};
  // Of the next such step, which is made when a quarter of it is left, so that appends do not wait
  // for it (durable-async: 1.65 M/s in place of 1.46). Set with grow_mutex_.
  std::atomic<std::uint64_t> zero_step_bytes_;

  mutable std::mutex mark_mutex_;
  Position durable_position_;
  std::optional<Error> failure_;
  std::atomic<std::uint64_t> flushes_{0};

  // Of background_step().
  std::optional<BackgroundTask::Clock::time_point> window_end_;  ///< Of FsyncPolicy::batch.
  BackgroundTask::Clock::time_point retry_at_{};                 ///< After an error.
  std::uint64_t populated_at_ = 0;
  std::unique_ptr<BackgroundTask> background_;  ///< nullptr: callers do its work.
};

// --- inline: once per append
// -----------------------------------------------------
// Always: a header whose address is taken is in memory, and then waits for its own stores.

[[gnu::always_inline]] inline FrameHeader LogWriter::next_header(std::uint64_t record_count,
                                                                 std::uint64_t payload_bytes,
                                                                 std::uint32_t payload_crc32c,
                                                                 std::uint64_t now_ms) const {
  FrameHeader header;
  header.record_count = static_cast<std::uint32_t>(record_count);
  header.payload_bytes = payload_bytes;
  header.payload_crc32c = payload_crc32c;
  header.first_sequence = chain_.next_sequence;
  header.epoch = chain_.epoch;
  header.time_ms = std::max(chain_.time_ms, now_ms);
  header.durable_mark = turn_->durable.load(std::memory_order_relaxed);
  return header;
}

[[gnu::always_inline]] inline void LogWriter::advance(const FrameHeader& header) {
  summary_.add(header, end_ - placing_.ring_base);
  chain_.advance(header);
  end_ += header.frame_bytes();
  if (ring_ == nullptr) [[unlikely]] {
    turn_->written.store(end_);
  }
}

}  // namespace nori
