#include "base/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace nori {

std::uint32_t crc32c(std::uint32_t crc, std::span<const std::byte> data) noexcept {
  // ISA-L counts in int, and does not change what it reads in spite of its signature.
  constexpr std::size_t kPieceBytesMax = std::size_t{1} << 30;
  std::uint32_t state = ~crc;
  while (!data.empty()) {
    const auto piece = data.first(std::min(data.size(), kPieceBytesMax));
    auto* bytes = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(piece.data()));
    state = crc32_iscsi(bytes, static_cast<int>(piece.size()), state);
    data = data.subspan(piece.size());
  }
  return ~state;
}

}  // namespace nori
