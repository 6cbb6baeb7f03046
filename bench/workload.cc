#include "bench/workload.h"

#include <algorithm>
#include <array>
#include <random>

#include "format/frame.h"
#include "format/record.h"

namespace nori::bench {
namespace {

void fill_with_words(std::string& bytes, std::mt19937_64& random) {
  constexpr std::array<std::string_view, 32> kWords = {
      "the",     "order",   "customer", "with",   "amount", "currency", "euro",  "status",
      "paid",    "pending", "shipped",  "street", "city",   "country",  "name",  "email",
      "created", "updated", "quantity", "price",  "total",  "invoice",  "of",    "and",
      "item",    "number",  "delivery", "date",   "is",     "not",      "phone", "address"};
  for (std::size_t at = 0; at < bytes.size();) {
    const std::string_view word = kWords[random() % kWords.size()];
    at += word.copy(&bytes[at], std::min(word.size(), bytes.size() - at));
    if (at < bytes.size()) {
      bytes[at++] = ' ';
    }
  }
}

}  // namespace

Workload::Workload(std::size_t value_bytes, Content content) : value_bytes_(value_bytes) {
  const std::string blank(record_bytes(), ' ');
  const std::string_view blank_view = blank;
  std::array<std::byte, kRecordHeadBytesMax> head{};
  const std::byte* const head_end = encode_record_head(
      Record::put(blank_view.substr(0, kKeyBytes), blank_view.substr(kKeyBytes)), head.data());
  const std::size_t ahead_bytes =
      kFrameHeaderBytes + static_cast<std::size_t>(head_end - head.data());
  const std::size_t framed_bytes = ahead_bytes + record_bytes();

  std::mt19937_64 random(1);  // NOLINT: the same data in every run
  const std::size_t count = std::clamp<std::size_t>(kBytesMax / framed_bytes, 1, kRecordsMax);
  bytes_.resize(count * framed_bytes);
  if (content == Content::noise) {
    for (char& byte : bytes_) {
      byte = static_cast<char>(random());
    }
  } else {
    fill_with_words(bytes_, random);
  }
  const std::string_view all = bytes_;
  records_.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::string_view framed = all.substr(i * framed_bytes, framed_bytes);
    records_.push_back({.key = framed.substr(ahead_bytes, kKeyBytes),
                        .value = framed.substr(ahead_bytes + kKeyBytes),
                        .framed = framed});
  }
}

}  // namespace nori::bench
