// Writes a run of bytes to a file in whole blocks, whatever the pieces it is given.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "base/try.h"
#include "io/file_system.h"
#include "nori/error.h"
#include "segment/aligned_buffer.h"

namespace nori {

/// Collects bytes and writes them in large aligned pieces, so that it serves direct I/O too.
class BlockWriter {
 public:
  /// Whether the device begins with each piece at once, where the file's writes are buffered.
  enum class Writeback : std::uint8_t { at_sync, at_once };

  /// Begins at `offset`, a multiple of `block_bytes`.
  BlockWriter(io::File& file, std::uint64_t offset, std::uint64_t block_bytes,
              Writeback writeback = Writeback::at_sync)
      : file_(file),
        block_bytes_(block_bytes),
        writeback_(writeback),
        buffer_(std::max<std::size_t>(kBufferBytes, block_bytes)),
        offset_(offset) {}

  /// Where the next byte goes.
  [[nodiscard]] std::uint64_t offset() const noexcept { return offset_ + used_; }

  [[nodiscard]] Result<void> write(ByteView bytes) {
    while (!bytes.empty()) {
      const auto piece = std::min(bytes.size(), buffer_.size() - used_);
      std::memcpy(buffer_.data() + used_, bytes.data(), piece);
      used_ += piece;
      bytes = bytes.subspan(piece);
      NORI_TRY(flush_if_full());
    }
    return {};
  }

  [[nodiscard]] Result<void> write_zeros(std::uint64_t bytes) {
    while (bytes != 0) {
      const auto piece = std::min<std::uint64_t>(bytes, buffer_.size() - used_);
      std::memset(buffer_.data() + used_, 0, piece);
      used_ += piece;
      bytes -= piece;
      NORI_TRY(flush_if_full());
    }
    return {};
  }

  /// Fills the last block with zeros and writes what is left.
  [[nodiscard]] Result<void> finish() {
    NORI_TRY(write_zeros(round_up(used_, block_bytes_) - used_));
    return flush();
  }

 private:
  static constexpr std::size_t kBufferBytes = 256 * 1024;

  Result<void> flush_if_full() { return used_ == buffer_.size() ? flush() : Result<void>{}; }
  Result<void> flush() {
    if (used_ != 0) {
      NORI_TRY(file_.write_at(offset_, buffer_.span().first(used_), {}, false));
      if (writeback_ == Writeback::at_once) {
        file_.begin_writeback(offset_, used_);
      }
      offset_ += used_;
      used_ = 0;
    }
    return {};
  }

  io::File& file_;
  std::uint64_t block_bytes_;
  Writeback writeback_;
  AlignedBuffer buffer_;
  std::uint64_t offset_;
  std::size_t used_ = 0;
};

}  // namespace nori
