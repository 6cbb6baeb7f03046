// A record as it stands in a frame's payload.
//
//   size    field
//      1    flags         bits 0-1: 0 put, 1 remove; bit 2: expires_at follows;
//                         bits 3-4: compression of the value, 0 = none (others reserved);
//                         bits 5-7: 0
//   1..10   key_bytes     varint
//   1..10   value_bytes   varint; put only
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

#include "base/bytes.h"
#include "base/little_endian.h"
#include "base/varint.h"
#include "nori/record.h"

namespace nori {

inline constexpr std::size_t kRecordHeadBytesMax = 1 + 2 * kVarintBytesMax + 8;

/// The time that many milliseconds after 1970, or the nearest that a TimePoint can count.
[[nodiscard]] TimePoint time_point_of(std::int64_t ms) noexcept;

/// What stands before a record's key. Returns the byte behind it; `to` has room for
/// kRecordHeadBytesMax.
std::byte* encode_record_head(const Record& record, std::byte* to) noexcept;

/// Takes the record at the front of `payload` off it. Nothing, and `payload` unchanged, if there is
/// none that is valid.
[[nodiscard]] std::optional<Record> decode_record(ByteView& payload) noexcept;

// --- inline: once per record appended or read
// -----------------------------------------------------

namespace detail {

inline constexpr std::uint8_t kOperationMask = 0x03;
inline constexpr std::uint8_t kHasExpiry = 0x04;
inline constexpr std::uint8_t kFlagsKnown = kOperationMask | kHasExpiry;

}  // namespace detail

inline std::byte* encode_record_head(const Record& record, std::byte* to) noexcept {
  const bool is_put = record.op == Operation::put;
  auto flags = static_cast<std::uint8_t>(record.op);
  const bool has_expiry = is_put && record.expires_at.has_value();
  if (has_expiry) {
    flags |= detail::kHasExpiry;
  }
  *to++ = static_cast<std::byte>(flags);
  to = store_varint(to, record.key.size());
  if (is_put) {
    to = store_varint(to, record.value.size());
  }
  if (has_expiry) {
    const auto since_epoch =
        std::chrono::floor<std::chrono::milliseconds>(record.expires_at->time_since_epoch());
    store_le(to, static_cast<std::int64_t>(since_epoch.count()));
    to += 8;
  }
  return to;
}

inline std::optional<Record> decode_record(ByteView& payload) noexcept {
  const std::byte* at = payload.data();
  const std::byte* const end = at + payload.size();
  if (at == end) {
    return std::nullopt;
  }
  const auto flags = static_cast<std::uint8_t>(*at++);
  const auto op = static_cast<std::uint8_t>(flags & detail::kOperationMask);
  const bool has_expiry = (flags & detail::kHasExpiry) != 0;
  if ((flags & ~detail::kFlagsKnown) != 0 || op > 1 || (op == 1 && has_expiry)) {
    return std::nullopt;
  }
  Record record;
  record.op = static_cast<Operation>(op);
  std::uint64_t key_bytes = 0;
  std::uint64_t value_bytes = 0;
  at = load_varint(at, end, key_bytes);
  if (at != nullptr && record.op == Operation::put) {
    at = load_varint(at, end, value_bytes);
  }
  if (at == nullptr) {
    return std::nullopt;
  }
  if (has_expiry) {
    if (end - at < 8) {
      return std::nullopt;
    }
    record.expires_at = time_point_of(load_le<std::int64_t>(at));
    at += 8;
  }
  const auto bytes_left = static_cast<std::uint64_t>(end - at);
  if (key_bytes > bytes_left || value_bytes > bytes_left - key_bytes) {
    return std::nullopt;
  }
  const auto* text = reinterpret_cast<const char*>(at);
  record.key = {text, key_bytes};
  record.value = {text + key_bytes, value_bytes};
  payload = ByteView(at + key_bytes + value_bytes, end);
  return record;
}

}  // namespace nori
