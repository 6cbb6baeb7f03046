// What is placed as one frame: a header, filled in when the place is known, and a payload in
// pieces.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/frame.h"
#include "format/record.h"
#include "nori/record.h"

namespace nori {

/// Views of a frame's bytes. Those of the payload stay the caller's.
class FrameBody {
 public:
  /// Memory for the header, for what stands before a record's key, for the key, and for all of a
  /// small record: one piece costs one copy into the ring instead of three.
  using Scratch = std::array<std::byte, kFrameHeaderBytes + 512>;

  /// `scratch` lives as long as the body. `record.value` is what is stored: compressed, it was made
  /// from `plain_bytes` bytes.
  FrameBody(const Record& record, Scratch& scratch, Compression compression = Compression::none,
            std::uint64_t plain_bytes = 0) noexcept
      : header_(scratch.data()) {
    std::byte* end =
        encode_record_head(record, header_ + kFrameHeaderBytes, compression, plain_bytes);
    const auto key = as_byte_view(record.key);
    const auto value = record.op == Operation::put ? as_byte_view(record.value) : ByteView{};
    payload_ = {ByteView(header_ + kFrameHeaderBytes, end), key, value};
    rest_ = {key, value};
    if (kFrameHeaderBytes + kRecordHeadBytesMax + key.size() <= scratch.size()) {
      end = std::copy(key.begin(), key.end(), end);
      rest_ = {value, {}};
      if (value.size() <= static_cast<std::size_t>(scratch.data() + scratch.size() - end)) {
        end = std::copy(value.begin(), value.end(), end);
        rest_ = {};
      }
    }
    front_ = ByteView(header_, end);
  }
  /// `payload` holds `record_count` records, encoded; or something else, and 0.
  FrameBody(ByteView payload, std::uint64_t record_count, Scratch& scratch) noexcept
      : header_(scratch.data()),
        front_(header_, kFrameHeaderBytes),
        rest_{payload, {}},
        payload_{payload, {}, {}},
        record_count_(record_count) {}

  /// Room for kFrameHeaderBytes, in front of the payload.
  [[nodiscard]] std::byte* header() const noexcept { return header_; }
  /// The header's bytes, with the first of the payload.
  [[nodiscard]] ByteView front() const noexcept { return front_; }
  /// What follows `front`.
  [[nodiscard]] const std::array<ByteView, 2>& rest() const noexcept { return rest_; }

  [[nodiscard]] std::uint64_t record_count() const noexcept { return record_count_; }
  [[nodiscard]] std::uint64_t frame_bytes() const noexcept {
    return front_.size() + rest_[0].size() + rest_[1].size();
  }
  [[nodiscard]] std::uint64_t payload_bytes() const noexcept {
    return frame_bytes() - kFrameHeaderBytes;
  }
  /// Computed from where the caller has the bytes: what was just copied cannot be loaded in words
  /// before it has reached the cache (docs/performance.md#append).
  [[nodiscard]] std::uint32_t payload_crc32c() const noexcept { return crc32c_of_pieces(payload_); }

 private:
  std::byte* header_;
  ByteView front_;
  std::array<ByteView, 2> rest_{};
  std::array<ByteView, 3> payload_;
  std::uint64_t record_count_ = 1;
};

}  // namespace nori
