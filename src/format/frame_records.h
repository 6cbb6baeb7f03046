// The records of a frame, one by one. Those of a compacted frame (kind 7) say their own sequence
// and time:
//
//   size    field
//   1..10   record_count    varint: records left of the sequences that the frame covers
//           record_count x {
//   1..10     place         varint: (sequence - the one behind the record before) << 1 |
//   ends_batch;
//                           for the first, behind the frame's first_sequence - 1
//   1..10     time          varint: milliseconds since the record before, or the frame's time
//             record        format/record.h
//           }
//
// Such a payload is valid if it holds exactly its records, and their sequences lie in the frame's
// range. The ranges of frames follow each other without a hole; a frame may have no record left.

#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/varint.h"
#include "format/frame.h"
#include "format/record.h"
#include "nori/position.h"

namespace nori {

/// A record, and what its frame says of it.
struct FrameRecord {
  Sequence sequence = 0;
  std::uint64_t time_ms = 0;
  bool ends_batch = false;
  StoredRecord stored;
  ByteView bytes;  ///< As stored.
};

/// Reads a frame's records.
class FrameRecords {
 public:
  FrameRecords() = default;
  /// `payload` is the frame's, whole; it outlives this.
  FrameRecords(const FrameHeader& header, ByteView payload) noexcept;

  /// How many there are, as the frame says.
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  /// Whether all were read.
  [[nodiscard]] bool is_done() const noexcept { return read_ == count_ && left_.empty(); }
  /// The next one, into `record`. False at the end, and where the payload is malformed: then
  /// is_done() is false. `record` is anything then.
  [[nodiscard]] bool next(FrameRecord& record) noexcept;
  /// The same; nothing where that is false.
  [[nodiscard]] std::optional<FrameRecord> next() noexcept {
    std::optional<FrameRecord> record(std::in_place);
    if (!next(*record)) {
      record.reset();
    }
    return record;
  }

 private:
  ByteView left_;
  std::uint64_t count_ = 0;
  std::uint64_t read_ = 0;
  Sequence next_sequence_ = 0;
  Sequence end_sequence_ = 0;
  std::uint64_t time_ms_ = 0;
  bool is_compacted_ = false;
};

/// Puts a compacted frame together.
class CompactedFrame {
 public:
  /// Begins a frame for records of `epoch` from `first_sequence` on.
  void begin(Sequence first_sequence, std::uint64_t epoch);

  /// Whether a record of this sequence can be in it, by sequence and epoch.
  [[nodiscard]] bool takes(Sequence sequence, std::uint64_t epoch) const noexcept {
    return epoch == epoch_ && sequence - first_sequence_ < kRecordsPerFrameMax;
  }
  void add(const FrameRecord& record);
  /// What the last record's batch had behind it is gone: the batch ends there.
  void end_batch() noexcept;

  [[nodiscard]] std::uint64_t record_count() const noexcept { return count_; }
  [[nodiscard]] Sequence first_sequence() const noexcept { return first_sequence_; }
  [[nodiscard]] std::size_t records_bytes() const noexcept { return records_.size(); }
  /// Its payload, in two pieces: the count, then the records. Valid until the next call.
  [[nodiscard]] std::pair<ByteView, ByteView> payload();
  /// Its header, where it covers up to `end_sequence`; without a record its time is `time_ms`.
  [[nodiscard]] FrameHeader header(Sequence end_sequence, std::uint64_t time_ms);

 private:
  Sequence first_sequence_ = 0;
  Sequence next_sequence_ = 0;
  std::uint64_t epoch_ = 0;
  std::uint64_t first_time_ms_ = 0;
  std::uint64_t time_ms_ = 0;
  std::uint64_t count_ = 0;
  std::string records_;
  std::size_t last_record_ = 0;  ///< Where it begins in records_.
  std::array<std::byte, kVarintBytesMax> front_;
};

}  // namespace nori
