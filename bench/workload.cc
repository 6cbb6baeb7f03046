#include "bench/workload.h"

#include <array>
#include <random>

#include "format/frame.h"
#include "format/record.h"

namespace nori::bench {

Workload::Workload(std::size_t value_bytes) : value_bytes_(value_bytes) {
  const std::string blank(record_bytes(), ' ');
  const std::string_view blank_view = blank;
  std::array<std::byte, kRecordHeadBytesMax> head{};
  const std::byte* const head_end = encode_record_head(
      Record::put(blank_view.substr(0, kKeyBytes), blank_view.substr(kKeyBytes)), head.data());
  const std::size_t ahead_bytes =
      kFrameHeaderBytes + static_cast<std::size_t>(head_end - head.data());
  const std::size_t framed_bytes = ahead_bytes + record_bytes();

  std::mt19937_64 random(1);  // NOLINT: the same data in every run
  bytes_.resize(kRecords * framed_bytes);
  for (char& byte : bytes_) {
    byte = static_cast<char>(random());
  }
  const std::string_view all = bytes_;
  records_.reserve(kRecords);
  for (std::size_t i = 0; i < kRecords; ++i) {
    const std::string_view framed = all.substr(i * framed_bytes, framed_bytes);
    records_.push_back({.key = framed.substr(ahead_bytes, kKeyBytes),
                        .value = framed.substr(ahead_bytes + kKeyBytes),
                        .framed = framed});
  }
}

}  // namespace nori::bench
