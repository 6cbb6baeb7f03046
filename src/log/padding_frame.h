// Padding frames: what fills a block, so that a durable byte is never written again.

#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "base/crc32c.h"
#include "format/frame.h"

namespace nori {

/// How many bytes of payload fill the block that `offset` lies in, or the next one too where a
/// frame's header does not fit; nothing where a block begins.
[[nodiscard]] constexpr std::optional<std::uint64_t> padding_payload_bytes(
    std::uint64_t offset, std::uint64_t block_bytes) noexcept {
  const auto used = offset & (block_bytes - 1);
  if (used == 0) {
    return std::nullopt;
  }
  auto room = block_bytes - used;
  if (room < kFrameHeaderBytes) {
    room += block_bytes;
  }
  return room - kFrameHeaderBytes;
}

/// The checksum of that many zeros behind bytes whose checksum is `crc`.
[[nodiscard]] inline std::uint32_t crc32c_of_zeros(std::uint32_t crc,
                                                   std::uint64_t bytes) noexcept {
  static constexpr std::array<std::byte, 4096> kZeros{};
  for (; bytes > kZeros.size(); bytes -= kZeros.size()) {
    crc = crc32c(crc, kZeros);
  }
  return crc32c(crc, ByteView(kZeros).first(bytes));
}

/// The header of the padding frame that goes on behind `chain`.
[[nodiscard]] inline FrameHeader padding_header(const FrameChain& chain,
                                                std::uint64_t payload_bytes,
                                                Sequence durable_mark) noexcept {
  FrameHeader header;
  header.kind = FrameKind::padding;
  header.payload_bytes = payload_bytes;
  header.payload_crc32c = crc32c_of_zeros(0, payload_bytes);
  header.first_sequence = chain.next_sequence;
  header.epoch = chain.epoch;
  header.time_ms = chain.time_ms;
  header.durable_mark = durable_mark;
  return header;
}

}  // namespace nori
