// CRC-32C (Castagnoli), by ISA-L.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nori {

/// The checksum of `data` behind bytes whose checksum is `crc`; 0 begins anew. Because a CRC is a
/// bijection of its starting value for given data, any number can serve as a seed.
[[nodiscard]] std::uint32_t crc32c(std::uint32_t crc, std::span<const std::byte> data) noexcept;

}  // namespace nori
