// Walks the log's frames in order, over segments and ring: the one way in which recovery, readers
// and verification decide what comes next.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "format/frame.h"
#include "io/file_system.h"
#include "log/ring_view.h"
#include "nori/error.h"
#include "segment/segment_reader.h"

namespace nori {

/// A frame's place: where it stands in which segment, and where the ring has that segment's byte 0.
struct FramePlaceInLog {
  std::uint64_t segment_id = 0;
  std::uint64_t offset = 0;
  std::uint64_t ring_base = 0;
  std::uint32_t generation = 0;  ///< Of the file that `offset` is in: not 0 if it was compacted.

  [[nodiscard]] std::uint64_t ring_address() const noexcept { return ring_base + offset; }
  friend bool operator==(const FramePlaceInLog&, const FramePlaceInLog&) = default;
};

/// A place, and the chain that leads to it: where a walk can begin.
struct WalkPoint {
  FramePlaceInLog place;
  FrameChain chain;
};

/// A valid frame that continues the chain. Views last until the walker's next call.
struct WalkedFrame {
  FramePlaceInLog place;
  FrameHeader header;
  ByteView payload;
  bool from_ring = false;
  std::uint64_t records = 0;  ///< Those that are left, where the frame is a compacted one.

  [[nodiscard]] std::uint64_t end_offset() const noexcept {
    return place.offset + header.frame_bytes();
  }
};

/// Yields the frames that continue a chain, from a place on. A frame is taken from its segment
/// where it is valid there, else from the ring. It stops where neither has one, and can be asked
/// again.
///
/// A compacted file is read where its segments were. Where a walk comes to a segment in the middle
/// of one, or is within a segment that was compacted meanwhile and that it does not hold open, the
/// segment is missing: whoever wants to go on seeks the sequence.
///
/// Beside a live writer a frame leaves the ring only when it is in its segment: so a place that is
/// bad in the segment, then absent from the ring, is read again in the segment before the walker
/// stops there.
///
/// Threads: one at a time. Lifetime: the directory outlives it.
class FrameWalker {
 public:
  /// `segments` are the log's files, as far as they are known.
  explicit FrameWalker(io::Directory& directory, const LogId& log_id,
                       RingAccess ring_access = RingAccess::required,
                       const std::vector<SegmentFile>& segments = {})
      : directory_(&directory), log_id_(log_id), ring_access_(ring_access) {
    set_segments(segments);
  }

  /// Goes to a place and the chain that leads to it. `offset` 0 is the segment's first frame; where
  /// the segment has a file, its header's ring_base counts.
  void seek(const WalkPoint& point);
  /// The same, where the log's files are known.
  void seek(const WalkPoint& point, const std::vector<SegmentFile>& segments) {
    set_segments(segments);
    segment_.reset();
    seek(point);
  }

  /// The next frame, or nothing: then stop_reason() says what is there instead.
  /// Errors: `io`, where a file cannot be read; `unsupported_version`.
  [[nodiscard]] Result<std::optional<WalkedFrame>> next();

  /// The next frame, if it was read along with the one before it; nullptr says nothing, next()
  /// does. Valid until the walker's next call. (scan-1k: 1.5 times as many records a second)
  [[nodiscard]] const WalkedFrame* next_at_hand() noexcept;

  /// Where the next frame will be looked for.
  [[nodiscard]] const FramePlaceInLog& place() const noexcept { return place_; }
  [[nodiscard]] const FrameChain& chain() const noexcept { return chain_; }
  [[nodiscard]] WalkPoint point() const noexcept { return {.place = place_, .chain = chain_}; }
  /// Why next() stopped, in words for a message.
  [[nodiscard]] const std::string& stop_reason() const noexcept { return stop_reason_; }
  /// Whether it stopped because place()'s segment has no file.
  [[nodiscard]] bool segment_is_missing() noexcept { return segment() == nullptr; }
  /// The segment that place() is in; nullptr if it has no file, or none was opened yet.
  [[nodiscard]] SegmentReader* segment() noexcept {
    return segment_ != nullptr && segment_->segment_id() == place_.segment_id ? segment_.get()
                                                                              : nullptr;
  }
  /// The ring; nullptr if there is none, or none that may be read.
  [[nodiscard]] RingView* ring() noexcept { return ring_.get(); }
  /// Why there is a ring that may not be read; empty otherwise.
  [[nodiscard]] const std::string& ring_note() const noexcept { return ring_note_; }

  /// Opens the ring if there is one and it is not open, or is no longer the one of that name.
  [[nodiscard]] Result<void> refresh_ring();

  /// The id behind the last segment of the file that place() is in.
  [[nodiscard]] std::uint64_t next_segment_id() noexcept {
    return (segment() != nullptr ? segment()->name().last : place_.segment_id) + 1;
  }

 private:
  void set_segments(const std::vector<SegmentFile>& segments);
  [[nodiscard]] SegmentFile file_of(std::uint64_t segment_id) const;
  [[nodiscard]] Result<void> open_segment();
  [[nodiscard]] Result<std::optional<WalkedFrame>> next_in_segment();
  [[nodiscard]] Result<std::optional<WalkedFrame>> next_in_ring();
  [[nodiscard]] bool continues(const WalkedFrame& frame);
  void advance(const WalkedFrame& frame);

  io::Directory* directory_;
  LogId log_id_;
  RingAccess ring_access_;
  FramePlaceInLog place_;
  FrameChain chain_;
  std::uint32_t seed_ = 0;
  bool at_begin_ = false;    ///< Of the segment, whatever its file.
  bool in_ring_ = false;     ///< The last frame came from the ring: look there first.
  bool in_segment_ = false;  ///< The last frame came from segment_, and was not its last one.
  WalkedFrame frame_;        ///< For next_at_hand().
  std::vector<SegmentFile> compacted_;  ///< The compacted files, when last looked.
  std::unique_ptr<SegmentReader> segment_;
  std::unique_ptr<RingView> ring_;
  std::string ring_note_;
  std::string stop_reason_;
};

}  // namespace nori
