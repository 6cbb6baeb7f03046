#include "format/frame_records.h"

#include <algorithm>

#include "base/crc32c.h"

namespace nori {
namespace {

// Takes a number off the front of `bytes`; without one, `bytes` stays.
std::optional<std::uint64_t> take_varint(ByteView& bytes) noexcept {
  std::uint64_t value = 0;
  const auto* const end = bytes.data() + bytes.size();
  const auto* const behind = load_varint(bytes.data(), end, value);
  if (behind == nullptr) {
    return std::nullopt;
  }
  bytes = ByteView(behind, end);
  return value;
}

void append_varint(std::string& to, std::uint64_t value) {
  std::array<std::byte, kVarintBytesMax> bytes;
  const auto* const end = store_varint(bytes.data(), value);
  to.append(as_text({bytes.data(), end}));
}

}  // namespace

FrameRecords::FrameRecords(const FrameHeader& header, ByteView payload) noexcept
    : left_(payload),
      count_(header.record_count),
      next_sequence_(header.first_sequence),
      end_sequence_(header.end_sequence()),
      time_ms_(header.time_ms),
      is_compacted_(header.kind == FrameKind::compacted) {
  if (is_compacted_) {
    // Without a count there is one record that cannot be read.
    count_ = take_varint(left_).value_or(1);
  }
}

bool FrameRecords::next(FrameRecord& record) noexcept {
  if (read_ == count_) {
    return false;
  }
  auto left = left_;
  bool ends_batch = read_ + 1 == count_;
  if (is_compacted_) {
    const auto place = take_varint(left);
    const auto time = place ? take_varint(left) : std::nullopt;
    if (!time || *place >> 1 >= end_sequence_ - next_sequence_ ||
        *time > kFrameTimeMsMax - time_ms_) {
      return false;
    }
    ends_batch = (*place & 1) != 0;
    next_sequence_ += *place >> 1;
    time_ms_ += *time;
  }
  const auto* const begin = left.data();
  StoredRecord stored;
  if (!decode_record(left, stored)) {
    return false;
  }
  record.sequence = next_sequence_++;
  record.time_ms = time_ms_;
  record.ends_batch = ends_batch;
  record.stored = stored;
  record.bytes = ByteView(begin, left.data());
  left_ = left;
  ++read_;
  return true;
}

void CompactedFrame::begin(Sequence first_sequence, std::uint64_t epoch) {
  first_sequence_ = next_sequence_ = first_sequence;
  epoch_ = epoch;
  count_ = 0;
  records_.clear();
}

void CompactedFrame::add(const FrameRecord& record) {
  if (count_++ == 0) {
    first_time_ms_ = time_ms_ = record.time_ms;
  }
  last_record_ = records_.size();
  append_varint(records_, (record.sequence - next_sequence_) << 1 | (record.ends_batch ? 1 : 0));
  append_varint(records_, record.time_ms - time_ms_);
  records_.append(as_text(record.bytes));
  next_sequence_ = record.sequence + 1;
  time_ms_ = record.time_ms;
}

void CompactedFrame::end_batch() noexcept {
  if (count_ != 0) {
    records_[last_record_] = static_cast<char>(records_[last_record_] | 1);
  }
}

std::pair<ByteView, ByteView> CompactedFrame::payload() {
  const auto* const end = store_varint(front_.data(), count_);
  return {ByteView(front_.data(), end), as_byte_view(records_)};
}

FrameHeader CompactedFrame::header(Sequence end_sequence, std::uint64_t time_ms) {
  const auto [front, records] = payload();
  FrameHeader header;
  header.kind = FrameKind::compacted;
  header.record_count = static_cast<std::uint32_t>(end_sequence - first_sequence_);
  header.payload_bytes = front.size() + records.size();
  header.payload_crc32c = crc32c(crc32c(0, front), records);
  header.first_sequence = first_sequence_;
  header.epoch = epoch_;
  header.time_ms = count_ == 0 ? time_ms : first_time_ms_;
  header.durable_mark = first_sequence_;
  return header;
}

}  // namespace nori
