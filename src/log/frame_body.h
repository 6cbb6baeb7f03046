// What an append brings: the payload of a frame, in pieces.

#pragma once

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
  /// `head` holds what stands before the record's key, and lives as long as the body.
  FrameBody(const Record& record, std::array<std::byte, kRecordHeadBytesMax>& head) noexcept {
    const std::byte* const end = encode_record_head(record, head.data());
    pieces_[0] = ByteView(head.data(), end);
    pieces_[1] = as_byte_view(record.key);
    if (record.op == Operation::put) {
      pieces_[2] = as_byte_view(record.value);
    }
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
