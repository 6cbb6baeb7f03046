#include "log/io_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "base/make_error.h"
#include "base/try.h"
#include "segment/aligned_buffer.h"
#include "segment/segment_name.h"

namespace nori {
namespace {

// A ring holds frames of a quarter of its size, and blocks to spare for padding.
constexpr std::uint64_t kBlocksPerRingMin = 16;

// Writes one block past the page cache: some filesystems refuse only then.
Result<void> try_direct(io::Directory& directory, std::uint64_t block_bytes) {
  const auto tried = [&]() -> Result<void> {
    const auto file =
        NORI_TRY(directory.open(kProbeName, io::Access::write_direct, io::Creation::replace));
    AlignedBuffer block(block_bytes);
    std::memset(block.data(), 0, block.size());
    return file->write_at(0, block.span(), {}, false);
  }();
  // A name that comes back after a crash is a void file.
  static_cast<void>(directory.remove(kProbeName));
  return tried;
}

// A full disk says nothing about direct writes.
bool is_refusal(const Error& error) { return error.code != ErrorCode::no_space; }

Result<void> choose_mode(io::Directory& directory, const WalOptions& options, IoChoice& choice) {
  const auto& traits = directory.traits();
  choice.mode = {.access = io::Access::write_buffered, .block_bytes = traits.block_bytes};
  if (choice.ring_bytes == 0) {
    if (options.io == IoMode::direct) {
      return make_error(ErrorCode::invalid_argument,
                        "{}: direct I/O needs a ring, and there is none ({}); ask for a ring, or "
                        "for another I/O mode",
                        directory.path().string(), choice.ring_reason);
    }
    choice.io_reason = "without a ring every append is a write of its own";
    return {};
  }
  if (options.io == IoMode::buffered) {
    choice.io_reason = "asked for";
    return {};
  }
  if (!traits.direct_allowed) {
    choice.io_reason =
        fmt::format("{} does not write past the page cache reliably", traits.file_system_name);
  } else if (const auto tried = try_direct(directory, traits.block_bytes);
             tried || !is_refusal(tried.error())) {
    choice.mode.access = io::Access::write_direct;
    choice.io_reason = options.io == IoMode::direct
                           ? "asked for"
                           : fmt::format("{} takes direct writes", traits.file_system_name);
    return {};
  } else {
    choice.io_reason =
        fmt::format("{} refuses direct writes: {}", traits.file_system_name, tried.error().message);
  }
  if (options.io == IoMode::direct) {
    return make_error(ErrorCode::invalid_argument,
                      "{}: direct I/O was asked for, but {}; ask for "
                      "automatic or buffered",
                      directory.path().string(), choice.io_reason);
  }
  return {};
}

void choose_ring(io::Directory& directory, const WalOptions& options, IoChoice& choice) {
  const auto& traits = directory.traits();
  if (options.ring_bytes == WalOptions::kNoRing) {
    choice.ring_reason = "segment: no ring was asked for";
  } else if (!traits.mapping_allowed) {
    choice.ring_reason =
        fmt::format("segment: a store into a mapped file can fail on {}", traits.file_system_name);
  } else {
    choice.ring_bytes = std::max(
        {std::min(std::bit_ceil(options.ring_bytes), std::bit_floor(options.segment_bytes)),
         std::bit_ceil(kBlocksPerRingMin * traits.block_bytes)});
    choice.ring_reason = "mapped ring";
  }
}

}  // namespace

Result<IoChoice> choose_io(io::Directory& directory, const WalOptions& options) {
  IoChoice choice;
  choose_ring(directory, options, choice);
  NORI_TRY(choose_mode(directory, options, choice));
  return choice;
}

}  // namespace nori
