// What is placed as one frame: a header, filled in when the place is known, and a payload in
// pieces.

#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

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
    if (kFrameHeaderBytes + kRecordHeadBytesMax + key.size() <= scratch.size()) {
      end = std::copy(key.begin(), key.end(), end);
      in_front_ = 2;
      if (value.size() <= static_cast<std::size_t>(scratch.data() + scratch.size() - end)) {
        end = std::copy(value.begin(), value.end(), end);
        in_front_ = 3;
      }
    }
    front_bytes_ = static_cast<std::size_t>(end - header_);
  }
  /// `payload` holds `record_count` records, encoded; or something else, and 0.
  FrameBody(ByteView payload, std::uint64_t record_count, Scratch& scratch) noexcept
      : header_(scratch.data()),
        payload_{ByteView{}, payload, ByteView{}},
        record_count_(record_count) {}

  /// Room for kFrameHeaderBytes, in front of the payload.
  [[nodiscard]] std::byte* header() const noexcept { return header_; }
  /// The header's bytes, with the first of the payload.
  [[nodiscard]] ByteView front() const noexcept { return {header_, front_bytes_}; }
  /// What follows `front`, if it is not all.
  [[nodiscard]] std::span<const ByteView> rest() const noexcept {
    return std::span(payload_).subspan(in_front_);
  }

  [[nodiscard]] std::uint64_t record_count() const noexcept { return record_count_; }
  [[nodiscard]] std::uint64_t frame_bytes() const noexcept {
    return kFrameHeaderBytes + payload_bytes();
  }
  [[nodiscard]] std::uint64_t payload_bytes() const noexcept {
    return payload_[0].size() + payload_[1].size() + payload_[2].size();
  }
  /// Computed from where the caller has the bytes: what was just copied cannot be loaded in words
  /// before it has reached the cache (docs/performance.md#append).
  [[nodiscard]] std::uint32_t payload_crc32c() const noexcept { return crc32c_of_pieces(payload_); }

 private:
  std::byte* header_;
  std::size_t front_bytes_ = kFrameHeaderBytes;
  std::array<ByteView, 3> payload_;  ///< A record's head, key and value; or any.
  std::size_t in_front_ = 1;         ///< How many of these `front` holds.
  std::uint64_t record_count_ = 1;
};

}  // namespace nori
