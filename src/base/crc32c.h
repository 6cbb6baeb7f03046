// CRC-32C (Castagnoli), by ISA-L.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nori {

/// The checksum of `data` behind bytes whose checksum is `crc`; 0 begins anew. Because a CRC is a
/// bijection of its starting value for given data, any number can serve as a seed.
[[nodiscard]] std::uint32_t crc32c(std::uint32_t crc, std::span<const std::byte> data) noexcept;

/// The checksum of pieces as if they stood one behind the other.
[[nodiscard]] std::uint32_t crc32c_of_pieces(
    std::span<const std::span<const std::byte>> pieces) noexcept;

/// The same of 38 bytes that are in registers: four little-endian words and the low six bytes of
/// `rest`. What was just stored in pieces cannot be loaded as words before it has reached the
/// cache.
[[nodiscard]] std::uint32_t crc32c_of_words(std::uint32_t crc, std::uint64_t first,
                                            std::uint64_t second, std::uint64_t third,
                                            std::uint64_t fourth, std::uint64_t rest) noexcept;

}  // namespace nori
