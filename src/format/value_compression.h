// A record's value, compressed by LZ4 or Zstandard.

#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "nori/compression.h"

namespace nori {

/// Memory that compressing and decompressing reuses. What is returned lies in it.
///
/// Threads: one at a time.
class ValueBuffer {
 public:
  /// `value` compressed, or `value` itself and `compression` set to none where that is not smaller.
  [[nodiscard]] std::string_view compress(std::string_view value, Compression& compression);

  /// What `stored` was made from, or nothing where it was not made from `value_bytes` bytes.
  /// Allocates no more than that, and never more than kCompressedValueBytesMax.
  [[nodiscard]] bool decompress(Compression compression, std::string_view stored,
                                std::uint64_t value_bytes, std::string_view& value);

 private:
  char* room_for(std::size_t bytes);

  std::unique_ptr<char[]> bytes_;
  std::size_t capacity_ = 0;
};

}  // namespace nori
