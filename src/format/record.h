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

#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.h"
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

}  // namespace nori
