// Keys by their heads: eight bytes as one number, compared before anything else is.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nori {

[[nodiscard]] inline std::size_t common_prefix(std::string_view a, std::string_view b) noexcept {
  const auto most = std::min(a.size(), b.size());
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.begin() + most, b.begin()).first -
                                  a.begin());
}

/// The eight bytes from `skip` on, which is not behind the key's end; zeros where it ends before.
/// Of keys that share their first `skip` bytes, one with a lower head is the lower one; equal heads
/// say nothing.
[[nodiscard]] inline std::uint64_t head_of(std::string_view key, std::size_t skip) noexcept {
  const auto* const from = key.data() + skip;
  const auto left = key.size() - skip;
  std::uint64_t head = 0;
  if (left >= sizeof(head)) [[likely]] {
    std::memcpy(&head, from, sizeof(head));
  } else if (left > 0) {
    std::memcpy(&head, from, left);
  }
  return __builtin_bswap64(head);
}

}  // namespace nori
