// Reads one segment's file, by pread, never mapped: a file that shrinks is a short read, not a
// signal.

#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <vector>

#include "format/frame.h"
#include "format/segment_footer.h"
#include "format/segment_header.h"
#include "io/file_system.h"
#include "nori/error.h"
#include "segment/segment_name.h"

namespace nori {

/// One segment, open for reading. Keeps a window of the file in memory.
///
/// Threads: one at a time. Lifetime: independent of the Directory; the file stays readable after it
/// was unlinked.
class SegmentReader {
 public:
  /// Errors: `io` with ENOENT where there is no such file. A bad header is no error: see header().
  [[nodiscard]] static Result<std::unique_ptr<SegmentReader>> open(io::Directory& directory,
                                                                   const SegmentFile& file);
  /// The same, but nullptr where there is no such file.
  [[nodiscard]] static Result<std::unique_ptr<SegmentReader>> open_if_there(
      io::Directory& directory, const SegmentFile& file);

  /// The first one, where the file is several compacted ones.
  [[nodiscard]] std::uint64_t segment_id() const noexcept { return name_.first; }
  [[nodiscard]] const SegmentFile& name() const noexcept { return name_; }
  [[nodiscard]] const std::expected<SegmentHeader, HeaderError>& header() const noexcept {
    return header_;
  }
  /// Whether the header is valid and belongs to a file of this name.
  [[nodiscard]] bool header_fits() const noexcept {
    return header_.has_value() && header_->first_segment == name_.first &&
           header_->last_segment == name_.last && header_->is_compacted() == name_.is_compacted;
  }

  /// Up to `bytes` bytes at `offset`, fewer where the file ends. Valid until the next call.
  /// Allocates no more than the file's size, or the window's.
  [[nodiscard]] Result<ByteView> view(std::uint64_t offset, std::uint64_t bytes);

  /// What the window holds from `offset` on: nothing is read, so it may be nothing.
  [[nodiscard]] ByteView at_hand(std::uint64_t offset) const noexcept {
    const auto skip = offset - window_offset_;  // huge where the window begins behind it
    return skip < window_bytes_ ? ByteView(window_.get() + skip, window_bytes_ - skip) : ByteView{};
  }

  /// Forgets the window, so that the next view is what the file holds now.
  void drop_window() noexcept { window_bytes_ = 0; }

  [[nodiscard]] Result<std::uint64_t> size() { return file_->size(); }

  /// The footer, if the file ends in a valid one. The header must fit.
  [[nodiscard]] Result<std::optional<SegmentSummary>> footer();

  /// The close frame that fills the file's last block, and where it begins, if there is one. The
  /// header must fit.
  struct CloseFrame {
    FrameHeader header;
    SegmentSummary summary;
    std::uint64_t offset = 0;
  };
  [[nodiscard]] Result<std::optional<CloseFrame>> close_frame();

 private:
  SegmentReader(const SegmentFile& name, std::unique_ptr<io::File> file)
      : name_(name), file_(std::move(file)) {}

  SegmentFile name_;
  std::unique_ptr<io::File> file_;
  std::expected<SegmentHeader, HeaderError> header_ = std::unexpected(HeaderError{});
  std::unique_ptr<std::byte[]> window_;
  std::uint64_t window_capacity_ = 0;
  std::uint64_t window_offset_ = 0;
  std::uint64_t window_bytes_ = 0;
};

}  // namespace nori
