// The ring as its writer has it: where the newest frames of the log live until they are in their
// segment.
//
// A ring address counts bytes along the log: a segment's ring_base plus the offset in the segment.
// A segment's first frame has the address behind its predecessor's last one.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "format/ring_header.h"
#include "io/file_system.h"
#include "nori/error.h"

namespace nori {

/// Bytes at ring addresses. Which of them may be written, and when, is the log's to say.
///
/// Threads: different bytes from different threads; set_mark from one at a time.
class AppendRing {
 public:
  /// Makes the directory's ring anew, in place of the one that is there, with a mark that is true;
  /// its name is durable on return. Fully allocated, written and touched, so that no store into it
  /// can fail for space.
  [[nodiscard]] static Result<std::unique_ptr<AppendRing>> create(io::Directory& directory,
                                                                  const LogId& log_id,
                                                                  std::uint64_t ring_bytes,
                                                                  const RingMark& mark);
  [[nodiscard]] std::uint64_t bytes() const noexcept { return data_.size(); }

  /// Where [address, address + bytes) is, to be written now; nullptr where it wraps.
  [[nodiscard]] std::byte* whole(std::uint64_t address, std::uint64_t bytes) noexcept {
    const auto index = address & mask_;
    prefetch(address + kPrefetchDistance, bytes);
    return bytes <= data_.size() - index ? data_.data() + index : nullptr;
  }

  /// Copies `bytes`, of which there are some, to an address.
  void write(std::uint64_t address, ByteView bytes) noexcept {
    const auto index = address & mask_;
    const auto before_wrap = data_.size() - index;
    prefetch(address + kPrefetchDistance, bytes.size());
    if (bytes.size() <= before_wrap) [[likely]] {
      std::memcpy(&data_[index], bytes.data(), bytes.size());
      return;
    }
    std::memcpy(&data_[index], bytes.data(), before_wrap);
    std::memcpy(data_.data(), bytes.data() + before_wrap, bytes.size() - before_wrap);
  }

  void write_zeros(std::uint64_t address, std::uint64_t bytes) noexcept {
    const auto [first, second] = pieces(address, bytes);
    std::memset(first.data(), 0, first.size());
    if (!second.empty()) {
      std::memset(second.data(), 0, second.size());
    }
  }

  /// The memory at [address, address + bytes), in two pieces where it wraps.
  [[nodiscard]] std::pair<ByteSpan, ByteSpan> pieces(std::uint64_t address,
                                                     std::uint64_t bytes) noexcept {
    const auto index = address & mask_;
    const auto before_wrap = std::min<std::uint64_t>(bytes, data_.size() - index);
    return {data_.subspan(index, before_wrap), data_.first(bytes - before_wrap)};
  }

  /// Publishes how far the log is durable. True of the disk when called, so it stays true.
  void set_mark(const RingMark& mark) noexcept;

  /// Takes page faults ahead of the appender. The kernel write-protects pages again when it has
  /// written them back.
  void populate() { mapping_->populate(); }

 private:
  // The ring is larger than a core's cache: without this, giving a lock back waits for the lines
  // that were written under it (append-1k: 290 ns an append, 210 with lines asked for 1 KiB ahead;
  // later 149 and 117 with 1 and 4 KiB. append-100: 0 to 10 %).
  static constexpr std::uint64_t kPrefetchDistance = 4096;
  static constexpr std::uint64_t kPrefetchBytesMax = 2048;  ///< The processor does the rest.
  static constexpr std::uint64_t kLineBytes = 64;

  // Always inlined: g++ 12 takes a call that does nothing else for one that does nothing.
  [[gnu::always_inline]] void prefetch(std::uint64_t address, std::uint64_t bytes) const noexcept {
    for (std::uint64_t i = 0; i < std::min(bytes, kPrefetchBytesMax); i += kLineBytes) {
      __builtin_prefetch(&data_[(address + i) & mask_], 1);
    }
  }

  AppendRing() = default;

  std::unique_ptr<io::Mapping> mapping_;
  ByteSpan data_;
  std::uint64_t mask_ = 0;
  LogId log_id_;
  std::uint64_t slot_ = 0;
};

}  // namespace nori
