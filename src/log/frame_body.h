// What an append brings: the payload of a frame, in pieces.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/record.h"
#include "nori/record.h"

namespace nori {

/// Views of a payload's bytes, which stay the caller's.
class FrameBody {
 public:
  /// Memory for what stands before a record's key, and for all of a small record: one piece costs
  /// one checksum and one copy instead of three (append-100: 1.2 times as many records a second).
  using Scratch = std::array<std::byte, 512>;

  /// `scratch` lives as long as the body.
  FrameBody(const Record& record, Scratch& scratch) noexcept {
    std::byte* end = encode_record_head(record, scratch.data());
    const auto key = as_byte_view(record.key);
    const auto value = record.op == Operation::put ? as_byte_view(record.value) : ByteView{};
    if (key.size() <= scratch.size() && value.size() <= scratch.size() &&
        kRecordHeadBytesMax + key.size() + value.size() <= scratch.size()) {
      end = std::copy(key.begin(), key.end(), end);
      end = std::copy(value.begin(), value.end(), end);
    } else {
      pieces_[1] = key;
      pieces_[2] = value;
    }
    pieces_[0] = ByteView(scratch.data(), end);
  }
  explicit FrameBody(const Batch& batch) noexcept : record_count_(batch.record_count()) {
    pieces_[0] = as_byte_view(batch.encoded());
  }

  [[nodiscard]] const std::array<ByteView, 3>& pieces() const noexcept { return pieces_; }
  [[nodiscard]] std::uint64_t record_count() const noexcept { return record_count_; }
  [[nodiscard]] std::uint64_t payload_bytes() const noexcept {
    return pieces_[0].size() + pieces_[1].size() + pieces_[2].size();
  }
  [[nodiscard]] std::uint32_t payload_crc32c() const noexcept {
    std::uint32_t crc = 0;
    for (const auto piece : pieces_) {
      if (!piece.empty()) {
        crc = crc32c(crc, piece);
      }
    }
    return crc;
  }

 private:
  std::array<ByteView, 3> pieces_{};
  std::uint64_t record_count_ = 1;
};

}  // namespace nori
