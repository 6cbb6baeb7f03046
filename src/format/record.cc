#include "format/record.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "base/little_endian.h"

namespace nori {
namespace {

constexpr std::uint8_t kOperationMask = 0x03;
constexpr std::uint8_t kHasExpiry = 0x04;
constexpr std::uint8_t kFlagsKnown = kOperationMask | kHasExpiry;

}  // namespace

TimePoint time_point_of(std::int64_t ms) noexcept {
  using std::chrono::milliseconds;
  // A TimePoint counts in finer units, so the ends of its range lie within that of milliseconds.
  constexpr auto kFirst = std::chrono::ceil<milliseconds>(TimePoint::min().time_since_epoch());
  constexpr auto kLast = std::chrono::floor<milliseconds>(TimePoint::max().time_since_epoch());
  return TimePoint{std::clamp(milliseconds{ms}, kFirst, kLast)};
}

std::byte* encode_record_head(const Record& record, std::byte* to) noexcept {
  const bool is_put = record.op == Operation::put;
  auto flags = static_cast<std::uint8_t>(record.op);
  const bool has_expiry = is_put && record.expires_at.has_value();
  if (has_expiry) {
    flags |= kHasExpiry;
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

std::optional<Record> decode_record(ByteView& payload) noexcept {
  const std::byte* at = payload.data();
  const std::byte* const end = at + payload.size();
  if (at == end) {
    return std::nullopt;
  }
  const auto flags = static_cast<std::uint8_t>(*at++);
  const auto op = static_cast<std::uint8_t>(flags & kOperationMask);
  const bool has_expiry = (flags & kHasExpiry) != 0;
  if ((flags & ~kFlagsKnown) != 0 || op > 1 || (op == 1 && has_expiry)) {
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

namespace nori {

void Batch::add(const Record& record) {
  std::array<std::byte, kRecordHeadBytesMax> head;
  const std::byte* const end = encode_record_head(record, head.data());
  encoded_.append(as_text({head.data(), end}));
  encoded_.append(record.key);
  if (record.op == Operation::put) {
    encoded_.append(record.value);
  }
  ++record_count_;
}

void Batch::clear() noexcept {
  encoded_.clear();
  record_count_ = 0;
}

}  // namespace nori
