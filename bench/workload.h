// The records that are appended: made beforehand, the same ones for every subject.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nori::bench {

inline constexpr std::size_t kKeyBytes = 16;

struct BenchRecord {
  std::string_view key;
  std::string_view value;
  /// As many bytes as the record takes in a nori log when it is appended alone.
  std::string_view framed;
};

/// What values are made of.
enum class Content : std::uint8_t {
  noise,  ///< Random bytes: nothing shrinks them.
  text,   ///< Words, as in a log or a document: LZ4 makes about a third of them.
};

/// Records with random keys and values. There are few enough to stay in a processor's cache, as
/// what a program appends usually is.
class Workload {
 public:
  explicit Workload(std::size_t value_bytes, Content content = Content::noise);
  Workload(const Workload&) = delete;
  Workload& operator=(const Workload&) = delete;

  /// Any index: the records repeat.
  [[nodiscard]] const BenchRecord& record(std::uint64_t index) const {
    return records_[index % records_.size()];
  }
  /// `count` records in a row; there are a multiple of it.
  [[nodiscard]] std::span<const BenchRecord> batch(std::uint64_t index, std::size_t count) const {
    return std::span(records_).subspan(index * count % records_.size(), count);
  }

  /// Key and value.
  [[nodiscard]] std::size_t record_bytes() const { return kKeyBytes + value_bytes_; }

 private:
  static constexpr std::size_t kRecordsMax = 1000;
  static constexpr std::size_t kBytesMax = 32 << 20;  ///< Fewer large ones.

  std::size_t value_bytes_;
  std::string bytes_;
  std::vector<BenchRecord> records_;
};

}  // namespace nori::bench
