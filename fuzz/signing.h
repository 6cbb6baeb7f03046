// Makes checksums match again after bytes were altered, so that an input comes past them.

#pragma once

#include <cstdint>

#include "base/bytes.h"

namespace nori::fuzz {

/// A checksum of all ones is left as it is: so an input can have bad ones too.
inline constexpr std::uint32_t kKeepChecksum = 0xffff'ffff;

/// The header at the front of a segment's file.
void sign_segment_header(ByteSpan file);
/// The frame at the front of `bytes`, its payload's checksum too where the payload ends within
/// them. Returns the frame's bytes; 0, and nothing changed, where none can be.
std::uint64_t sign_frame(ByteSpan bytes, std::uint32_t place_seed);
/// The footer that ends `file`, if one does.
void sign_footer(ByteSpan file, std::uint32_t segment_seed);
/// The header and the marks of a ring's file.
void sign_ring(ByteSpan file);

/// All of a segment's file: its header, frames from its first_offset on, its footer. Where frames
/// stop, they are looked for at every 64th byte.
void sign_segment(ByteSpan file);

/// The seed of the segment, as its header's bytes have it; of a file too short for one, 0.
[[nodiscard]] std::uint32_t seed_of(ByteView file);

}  // namespace nori::fuzz
