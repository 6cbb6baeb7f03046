// Keys by their heads: some of their bytes as a number, compared before anything else is.

#pragma once

#include <algorithm>
#include <bit>
#include <concepts>
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

/// The first bytes from `skip` on, which is not behind the key's end, as a number; zeros where it
/// ends before. Of keys that share their first `skip` bytes, one with a lower head is the lower
/// one; equal heads say nothing.
template <std::unsigned_integral Head>
[[nodiscard]] Head head_of(std::string_view key, std::size_t skip) noexcept {
  const auto* const from = key.data() + skip;
  const auto left = key.size() - skip;
  Head head = 0;
  if (left >= sizeof(head)) [[likely]] {
    std::memcpy(&head, from, sizeof(head));
  } else if (left > 0) {
    std::memcpy(&head, from, left);
  }
  return std::byteswap(head);
}

}  // namespace nori
