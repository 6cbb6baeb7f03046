// The ring as others see it: read by pread, copied out, and judged frame by frame. Works beside a
// live writer, in any process, and after it.

#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "format/frame.h"
#include "format/ring_header.h"
#include "io/file_system.h"
#include "nori/error.h"

namespace nori {

/// What it means that the ring may not be read.
enum class RingAccess : std::uint8_t {
  required,      ///< An error: who writes must not take the log for shorter than it is.
  if_permitted,  ///< Who only reads goes on with the segments, and says so.
};

/// Where the ring may not be read and that is no error: what the reader does without, and why.
[[nodiscard]] std::string unreadable_ring_note(const Error& error);

/// A ring's file, open for reading.
///
/// Threads: one at a time.
class RingView {
 public:
  /// Nothing where there is no ring, or none of this log.
  [[nodiscard]] static Result<std::unique_ptr<RingView>> open(io::Directory& directory,
                                                              const LogId& log_id);

  /// Whether the name still leads to this file.
  [[nodiscard]] bool is_current(io::Directory& directory) const;

  [[nodiscard]] std::uint64_t ring_bytes() const noexcept { return ring_bytes_; }

  /// The durable mark as the header has it now.
  [[nodiscard]] Result<std::optional<RingMark>> mark();

  /// The header of a frame that is valid at this place, judged by its checksum.
  [[nodiscard]] Result<std::optional<FrameHeader>> header_at(std::uint32_t segment_seed,
                                                             std::uint64_t offset,
                                                             std::uint64_t address);
  /// The payload of the frame with that header, if its checksum matches. Valid until the next call.
  [[nodiscard]] Result<std::optional<ByteView>> payload_at(const FrameHeader& header,
                                                           std::uint64_t address);

  /// `bytes` bytes at a ring address (log/append_ring.h), at most the ring's size. Valid until the
  /// next call.
  [[nodiscard]] Result<ByteView> view(std::uint64_t address, std::uint64_t bytes);

  /// Forgets what was read, so that the next call sees what the ring holds now.
  void drop_window() noexcept { window_bytes_ = 0; }

 private:
  RingView() = default;

  std::unique_ptr<io::File> file_;
  LogId log_id_;
  std::uint64_t ring_bytes_ = 0;
  std::vector<std::byte> window_;
  std::uint64_t window_index_ = 0;  ///< Where in the ring the window begins; it may wrap.
  std::uint64_t window_bytes_ = 0;
};

}  // namespace nori
