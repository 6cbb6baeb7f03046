// What is behind nori::Reader.

#pragma once

#include <memory>
#include <optional>

#include "format/frame_records.h"
#include "format/value_compression.h"
#include "io/file_system.h"
#include "log/flush_turn.h"
#include "log/frame_walker.h"
#include "log/log_listing.h"
#include "log/reader_places.h"
#include "nori/error.h"
#include "nori/wal.h"
#include "observe/observer.h"

namespace nori {

class Reader::Impl {
 public:
  /// What a reader is given by the log it is made from, and keeps beyond it.
  struct Source {
    std::shared_ptr<io::Directory> directory;
    LogId log_id;
    RingAccess ring_access = RingAccess::required;
    /// How far this log's writer is, if it has one.
    std::shared_ptr<const FlushTurn> progress;
    std::shared_ptr<Observer> observer;
    /// Told of each segment the reader comes to; nullptr: nobody is.
    std::shared_ptr<ReaderPlaces::Place> place;
    /// Everything before it is durable.
    Sequence durable = 0;
    /// Where the log ends now, if that is known.
    std::optional<WalkPoint> end;
  };

  /// Errors as Wal::read_from().
  [[nodiscard]] static Result<std::unique_ptr<Impl>> open(Source source, const ReadFrom& from,
                                                          ReadOptions options);

  [[nodiscard]] Result<std::optional<Entry>> next();
  [[nodiscard]] Result<bool> follow(std::chrono::milliseconds timeout);
  [[nodiscard]] Position position() const noexcept { return position_; }
  [[nodiscard]] EventQueue& events() const { return source_.observer->events; }

 private:
  // How closely a place without a frame is looked at.
  enum class Scrutiny : std::uint8_t { glance, full };

  Impl(Source source, ReadOptions options);

  [[nodiscard]] Result<void> check_usable() const {
    if (io::fork_generation() != fork_generation_) [[unlikely]] {
      return unusable();
    }
    return {};
  }
  [[nodiscard]] Result<void> unusable() const;
  [[nodiscard]] Result<std::optional<Entry>> step(Scrutiny scrutiny);
  [[nodiscard]] Result<bool> take_frame(Scrutiny scrutiny);
  [[nodiscard]] Result<std::optional<Entry>> step_compacted();
  [[nodiscard]] Result<bool> go_on_in_compacted(const LogListing& listing);
  [[nodiscard]] Result<void> seek_on();
  bool begin_frame(const WalkedFrame& frame);
  [[nodiscard]] Result<bool> is_visible(const FrameHeader& header);
  [[nodiscard]] Result<Sequence> durable_sequence();
  enum class Verdict : std::uint8_t { end, look_again };
  [[nodiscard]] Result<Verdict> judge(Scrutiny scrutiny);
  [[nodiscard]] std::unexpected<Error> damaged(const std::string& why);
  [[nodiscard]] std::unexpected<Error> damaged_frame(const std::string& why);
  [[nodiscard]] std::unexpected<Error> damaged(const std::string& why, const FramePlaceInLog& place,
                                               Sequence next_sequence);

  Source source_;
  ReadOptions options_;
  FrameWalker walker_;
  std::uint64_t fork_generation_;

  // The frame that records are taken from: the walker's own, or here.
  const WalkedFrame* frame_ = nullptr;
  WalkedFrame walked_frame_;
  TimePoint frame_time_;
  Sequence frame_end_sequence_ = 0;
  ByteView payload_left_;
  Sequence next_in_frame_ = 0;
  std::optional<FrameRecords> compacted_;  ///< Its records, where it is a compacted one.
  ValueBuffer value_buffer_;               ///< Of the last record, if it was compressed.

  std::uint64_t place_segment_id_ = 0;         ///< What source_.place was told.
  Sequence skip_to_ = 0;                       ///< Records before it are passed over,
  std::uint64_t skip_to_ms_ = 0;               ///< and frames of an earlier time.
  std::optional<Entry> ready_;                 ///< Found by follow(), for next().
  std::optional<FramePlaceInLog> end_judged_;  ///< Where a full look has found the log's end.
  std::optional<Error> damage_;                ///< Answered by every further step.
  Position position_;
};

}  // namespace nori
