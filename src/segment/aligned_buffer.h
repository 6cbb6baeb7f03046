// Memory that direct writes can be made from.

#pragma once

#include <cstddef>
#include <memory>
#include <new>

#include "base/bytes.h"

namespace nori {

/// Fixed in size, aligned to 64 KiB: more than any disk asks for. Not initialized.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(std::size_t bytes)
      : memory_(static_cast<std::byte*>(::operator new(bytes, kAlignment))), bytes_(bytes) {}

  [[nodiscard]] ByteSpan span() noexcept { return {memory_.get(), bytes_}; }
  [[nodiscard]] std::byte* data() noexcept { return memory_.get(); }
  [[nodiscard]] std::size_t size() const noexcept { return bytes_; }

 private:
  static constexpr std::align_val_t kAlignment{64 * 1024};
  struct Free {
    void operator()(std::byte* memory) const noexcept { ::operator delete(memory, kAlignment); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t bytes_;
};

}  // namespace nori
