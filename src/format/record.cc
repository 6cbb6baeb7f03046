#include "format/record.h"

#include <algorithm>
#include <string_view>

#include "format/value_compression.h"

namespace nori {

TimePoint time_point_of(std::int64_t ms) noexcept {
  using std::chrono::milliseconds;
  // A TimePoint counts in finer units, so the ends of its range lie within that of milliseconds.
  constexpr auto kFirst = std::chrono::ceil<milliseconds>(TimePoint::min().time_since_epoch());
  constexpr auto kLast = std::chrono::floor<milliseconds>(TimePoint::max().time_since_epoch());
  return TimePoint{std::clamp(milliseconds{ms}, kFirst, kLast)};
}

void Batch::add(const Record& record) {
  if (record.compression == Compression::none) {
    kept_plain_.push_back(record_count_);
  } else if (record.compression && record.op == Operation::put) {
    static thread_local ValueBuffer buffer;
    auto stored = record;
    auto compression = *record.compression;
    stored.value = buffer.compress(record.value, compression);
    append_record(encoded_, stored, compression, record.value.size());
    ++record_count_;
    return;
  } else if (record.op == Operation::put) {
    largest_value_bytes_ = std::max<std::uint64_t>(largest_value_bytes_, record.value.size());
  }
  append_record(encoded_, record, Compression::none, 0);
  ++record_count_;
}

void append_record(std::string& encoded, const Record& record, Compression compression,
                   std::uint64_t plain_bytes) {
  const auto value = record.op == Operation::put ? record.value : std::string_view{};
  const auto before = encoded.size();
  const auto bytes_most = before + kRecordHeadBytesMax + record.key.size() + value.size();
  // One growth and no clearing: half the cost of three appends.
  encoded.resize_and_overwrite(bytes_most, [&](char* bytes, std::size_t) {
    auto* const head = reinterpret_cast<std::byte*>(bytes + before);
    auto* end =
        bytes + before + (encode_record_head(record, head, compression, plain_bytes) - head);
    end = std::copy(record.key.begin(), record.key.end(), end);
    end = std::copy(value.begin(), value.end(), end);
    return static_cast<std::size_t>(end - bytes);
  });
}

void Batch::clear() noexcept {
  encoded_.clear();
  record_count_ = 0;
  largest_value_bytes_ = 0;
  kept_plain_.clear();
}

}  // namespace nori
