// A record as it stands in a frame's payload.
//
//   size    field
//      1    flags         bits 0-1: 0 put, 1 remove; bit 2: expires_at follows;
//                         bits 3-4: the value is compressed: 0 no, 1 LZ4, 2 Zstandard; put only;
//                         bits 5-7: 0
//   1..10   key_bytes     varint
//   1..10   value_bytes   varint; put only; as stored
//   1..10   plain_bytes   varint; only with bits 3-4: of the value decompressed; more than
//                         value_bytes, at most 2^24
//      8    expires_at    milliseconds since 1970, signed; only with bit 2, put only
//           key, then value
//
// A payload is valid if and only if it is exactly its records, as many as the frame's header says,
// one behind the other, each with defined flags and lengths in shortest form. docs/format.md#record
// has a worked example.

#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/little_endian.h"
#include "base/varint.h"
#include "nori/compression.h"
#include "nori/record.h"

namespace nori {

inline constexpr std::size_t kRecordHeadBytesMax = 1 + 3 * kVarintBytesMax + 8;

/// A record with its value as stored.
struct StoredRecord {
  Record record;
  Compression compression = Compression::none;
  std::uint64_t plain_bytes = 0;  ///< Of the value decompressed, where it is compressed.
};

/// The time that many milliseconds after 1970, or the nearest that a TimePoint can count.
[[nodiscard]] TimePoint time_point_of(std::int64_t ms) noexcept;

/// What stands before a record's key. `record.value` is what will be stored. Returns the byte
/// behind it; `to` has room for kRecordHeadBytesMax.
std::byte* encode_record_head(const Record& record, std::byte* to,
                              Compression compression = Compression::none,
                              std::uint64_t plain_bytes = 0) noexcept;

/// Appends the record, head and all, to `encoded`.
void append_record(std::string& encoded, const Record& record, Compression compression,
                   std::uint64_t plain_bytes);

/// Takes the record at the front of `payload` off it. Nothing, and `payload` unchanged, if there is
/// none that is valid.
[[nodiscard]] std::optional<StoredRecord> decode_record(ByteView& payload) noexcept;
/// The same into `stored`, which is as it was made. False, and `payload` unchanged, if there is
/// none that is valid.
[[nodiscard]] bool decode_record(ByteView& payload, StoredRecord& stored) noexcept;

// --- inline: once per record appended or read
// -----------------------------------------------------

namespace detail {

inline constexpr std::uint8_t kOperationMask = 0x03;
inline constexpr std::uint8_t kHasExpiry = 0x04;
inline constexpr std::uint8_t kCompressionMask = 0x18;
inline constexpr unsigned kCompressionShift = 3;
inline constexpr std::uint8_t kFlagsKnown = kOperationMask | kHasExpiry | kCompressionMask;

}  // namespace detail

inline std::byte* encode_record_head(const Record& record, std::byte* to, Compression compression,
                                     std::uint64_t plain_bytes) noexcept {
  const bool is_put = record.op == Operation::put;
  auto flags = static_cast<std::uint8_t>(record.op);
  const bool has_expiry = is_put && record.expires_at.has_value();
  if (has_expiry) {
    flags |= detail::kHasExpiry;
  }
  flags |=
      static_cast<std::uint8_t>(static_cast<unsigned>(compression) << detail::kCompressionShift);
  *to++ = static_cast<std::byte>(flags);
  to = store_varint(to, record.key.size());
  if (is_put) {
    to = store_varint(to, record.value.size());
    if (compression != Compression::none) {
      to = store_varint(to, plain_bytes);
    }
  }
  if (has_expiry) {
    const auto since_epoch =
        std::chrono::floor<std::chrono::milliseconds>(record.expires_at->time_since_epoch());
    store_le(to, static_cast<std::int64_t>(since_epoch.count()));
    to += 8;
  }
  return to;
}

// Always inlined: `stored` is then never in memory (docs/performance.md#reading).
[[gnu::always_inline]] inline bool decode_record(ByteView& payload, StoredRecord& stored) noexcept {
  const std::byte* at = payload.data();
  const std::byte* const end = at + payload.size();
  if (at == end) {
    return false;
  }
  const auto flags = static_cast<std::uint8_t>(*at++);
  const auto op = static_cast<std::uint8_t>(flags & detail::kOperationMask);
  const bool has_expiry = (flags & detail::kHasExpiry) != 0;
  const auto compression =
      static_cast<std::uint8_t>((flags & detail::kCompressionMask) >> detail::kCompressionShift);
  if ((flags & ~detail::kFlagsKnown) != 0 || op > 1 || compression > 2 ||
      (op == 1 && flags != op)) {
    return false;
  }
  stored.compression = Compression{compression};
  auto& record = stored.record;
  record.op = static_cast<Operation>(op);
  std::uint64_t key_bytes = 0;
  std::uint64_t value_bytes = 0;
  at = load_varint(at, end, key_bytes);
  if (at != nullptr && record.op == Operation::put) {
    at = load_varint(at, end, value_bytes);
    if (compression != 0 && at != nullptr) {
      at = load_varint(at, end, stored.plain_bytes);
      if (stored.plain_bytes <= value_bytes || stored.plain_bytes > kCompressedValueBytesMax) {
        return false;
      }
    }
  }
  if (at == nullptr) {
    return false;
  }
  if (has_expiry) {
    if (end - at < 8) {
      return false;
    }
    record.expires_at = time_point_of(load_le<std::int64_t>(at));
    at += 8;
  }
  const auto bytes_left = static_cast<std::uint64_t>(end - at);
  if (key_bytes > bytes_left || value_bytes > bytes_left - key_bytes) {
    return false;
  }
  const auto* text = reinterpret_cast<const char*>(at);
  record.key = {text, key_bytes};
  record.value = {text + key_bytes, value_bytes};
  payload = ByteView(at + key_bytes + value_bytes, end);
  return true;
}

inline std::optional<StoredRecord> decode_record(ByteView& payload) noexcept {
  std::optional<StoredRecord> stored(std::in_place);
  if (!decode_record(payload, *stored)) {
    stored.reset();
  }
  return stored;
}

}  // namespace nori
