#include "format/value_compression.h"

#include <lz4.h>
#include <zstd.h>

#include <memory>
#include <new>

namespace nori {
namespace {

constexpr int kZstdLevel = 1;

// One for each thread that needs it, as large as its library makes it (LZ4's 16 KiB are on the
// stack): making one costs more than compressing a small value.
ZSTD_CCtx* zstd_compressor() {
  struct Free {
    void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
  };
  static thread_local const std::unique_ptr<ZSTD_CCtx, Free> context(ZSTD_createCCtx());
  return context.get();
}

ZSTD_DCtx* zstd_decompressor() {
  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  static thread_local const std::unique_ptr<ZSTD_DCtx, Free> context(ZSTD_createDCtx());
  return context.get();
}

}  // namespace

// Whoever had the memory before needs it no more.
char* ValueBuffer::room_for(std::size_t bytes) {
  if (capacity_ < bytes) {
    bytes_ = std::make_unique_for_overwrite<char[]>(bytes);
    capacity_ = bytes;
  }
  return bytes_.get();
}

std::string_view ValueBuffer::compress(std::string_view value, Compression& compression) {
  if (value.size() < 2 || value.size() > kCompressedValueBytesMax) {
    compression = Compression::none;
    return value;
  }
  // No more room than it may take: what needs more is not wanted.
  const auto room = value.size() - 1;
  std::size_t bytes = 0;
  if (compression == Compression::lz4) {
    const auto done = LZ4_compress_default(value.data(), room_for(room),
                                           static_cast<int>(value.size()), static_cast<int>(room));
    bytes = static_cast<std::size_t>(done);
  } else if (compression == Compression::zstd) {
    auto* const context = zstd_compressor();
    const auto done = context == nullptr
                          ? 0
                          : ZSTD_compressCCtx(context, room_for(room), room, value.data(),
                                              value.size(), kZstdLevel);
    bytes = ZSTD_isError(done) != 0 ? 0 : done;
  }
  if (bytes == 0) {
    compression = Compression::none;
    return value;
  }
  return {bytes_.get(), bytes};
}

bool ValueBuffer::decompress(Compression compression, std::string_view stored,
                             std::uint64_t value_bytes, std::string_view& value) {
  // LZ4 makes no more than 255 bytes of one; a Zstandard frame says how many it makes.
  const bool is_possible =
      compression == Compression::lz4
          ? value_bytes / 255 <= stored.size()
          : ZSTD_getFrameContentSize(stored.data(), stored.size()) == value_bytes;
  if (value_bytes > kCompressedValueBytesMax || stored.size() >= value_bytes || !is_possible) {
    return false;
  }
  char* const to = room_for(value_bytes);
  if (compression == Compression::lz4) {
    const auto done = LZ4_decompress_safe(stored.data(), to, static_cast<int>(stored.size()),
                                          static_cast<int>(value_bytes));
    if (done < 0 || static_cast<std::uint64_t>(done) != value_bytes) {
      return false;
    }
  } else {
    auto* const context = zstd_decompressor();
    if (context == nullptr) {
      throw std::bad_alloc();
    }
    if (ZSTD_decompressDCtx(context, to, value_bytes, stored.data(), stored.size()) !=
        value_bytes) {
      return false;
    }
  }
  value = {to, value_bytes};
  return true;
}

}  // namespace nori
