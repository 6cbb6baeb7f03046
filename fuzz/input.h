// A fuzzer's input, taken apart from its front.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/bytes.h"

namespace nori::fuzz {

/// Once it is used up it yields zeros and nothing.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : left_(std::as_bytes(std::span(data, size))) {}

  [[nodiscard]] bool empty() const noexcept { return left_.empty(); }

  /// An integer, in as many bytes as it has.
  template <typename T>
  [[nodiscard]] T take() noexcept {
    T value = 0;
    const auto bytes = take_bytes(sizeof(T));
    if (!bytes.empty()) {
      std::memcpy(&value, bytes.data(), bytes.size());
    }
    return value;
  }

  /// A number in [0, end); 0 if `end` is 0.
  [[nodiscard]] std::uint64_t below(std::uint64_t end) noexcept {
    const std::uint64_t number = end <= 256 ? take<std::uint8_t>() : take<std::uint32_t>();
    return end == 0 ? 0 : number % end;
  }

  /// `count` bytes, or what is left.
  [[nodiscard]] ByteView take_bytes(std::size_t count) noexcept {
    const auto bytes = left_.first(std::min(count, left_.size()));
    left_ = left_.subspan(bytes.size());
    return bytes;
  }

  [[nodiscard]] ByteView rest() noexcept { return take_bytes(left_.size()); }

 private:
  ByteView left_;
};

}  // namespace nori::fuzz
