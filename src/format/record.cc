#include "format/record.h"

#include <algorithm>
#include <string_view>

namespace nori {

TimePoint time_point_of(std::int64_t ms) noexcept {
  using std::chrono::milliseconds;
  // A TimePoint counts in finer units, so the ends of its range lie within that of milliseconds.
  constexpr auto kFirst = std::chrono::ceil<milliseconds>(TimePoint::min().time_since_epoch());
  constexpr auto kLast = std::chrono::floor<milliseconds>(TimePoint::max().time_since_epoch());
  return TimePoint{std::clamp(milliseconds{ms}, kFirst, kLast)};
}

void Batch::add(const Record& record) {
  const auto value = record.op == Operation::put ? record.value : std::string_view{};
  const auto before = encoded_.size();
  const auto bytes_most = before + kRecordHeadBytesMax + record.key.size() + value.size();
  // One growth and no clearing: half the cost of three appends.
  encoded_.resize_and_overwrite(bytes_most, [&](char* bytes, std::size_t) {
    auto* const head = reinterpret_cast<std::byte*>(bytes + before);
    auto* end = bytes + before + (encode_record_head(record, head) - head);
    end = std::copy(record.key.begin(), record.key.end(), end);
    end = std::copy(value.begin(), value.end(), end);
    return static_cast<std::size_t>(end - bytes);
  });
  ++record_count_;
}

void Batch::clear() noexcept {
  encoded_.clear();
  record_count_ = 0;
}

}  // namespace nori
