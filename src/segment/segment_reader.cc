#include "segment/segment_reader.h"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "base/try.h"

namespace nori {
namespace {

// Large enough to make a system call rare, small enough to stay in a core's own cache.
constexpr std::uint64_t kWindowBytes = 256 * 1024;
// The first read of a file is for its header alone.
constexpr std::uint64_t kFirstReadBytes = 4096;
constexpr std::uint64_t kOffsetMax = std::numeric_limits<std::int64_t>::max();
constexpr std::uint64_t kBlockBytesMin = 4096;
constexpr std::uint64_t kBlockBytesMax = 64 * 1024;

}  // namespace

Result<std::unique_ptr<SegmentReader>> SegmentReader::open(io::Directory& directory,
                                                           const SegmentFile& file) {
  auto opened = NORI_TRY(directory.open(file.name(), io::Access::read, io::Creation::existing));
  std::unique_ptr<SegmentReader> reader(new SegmentReader(file, std::move(opened)));
  reader->header_ = decode_segment_header(NORI_TRY(reader->view(0, kFirstReadBytes)));
  return reader;
}

Result<std::unique_ptr<SegmentReader>> SegmentReader::open_if_there(io::Directory& directory,
                                                                    const SegmentFile& file) {
  auto opened = open(directory, file);
  if (!opened && opened.error().system_errno == ENOENT) {
    return nullptr;
  }
  return opened;
}

Result<ByteView> SegmentReader::view(std::uint64_t offset, std::uint64_t bytes) {
  if (offset > kOffsetMax - bytes) {
    return ByteView{};  // behind the end of any file
  }
  if (offset < window_offset_ || offset + bytes > window_offset_ + window_bytes_) {
    auto wanted = window_capacity_ == 0 ? bytes : std::max(bytes, kWindowBytes);
    if (wanted > window_capacity_) {
      const auto file_bytes = NORI_TRY(file_->size());
      wanted = std::min(wanted, std::max(file_bytes - std::min(file_bytes, offset),
                                         std::uint64_t{kFirstReadBytes}));
    }
    if (wanted > window_capacity_) {
      window_ = std::make_unique_for_overwrite<std::byte[]>(wanted);
      window_capacity_ = wanted;
    }
    window_bytes_ = 0;
    window_offset_ = offset;
    window_bytes_ = NORI_TRY(
        file_->read_at(offset, ByteSpan(window_.get(), std::min(wanted, window_capacity_))));
  }
  const auto skip = std::min(offset - window_offset_, window_bytes_);
  return ByteView(window_.get() + skip, std::min(bytes, window_bytes_ - skip));
}

Result<std::optional<SegmentSummary>> SegmentReader::footer() {
  const auto file_bytes = NORI_TRY(size());
  if (file_bytes < kSegmentHeaderBytes + kFooterTrailerBytes) {
    return std::nullopt;
  }
  drop_window();
  const auto footer_bytes =
      decode_footer_bytes(NORI_TRY(view(file_bytes - kFooterTrailerBytes, kFooterTrailerBytes)));
  if (!footer_bytes || *footer_bytes > file_bytes ||
      file_bytes - *footer_bytes < header_->first_offset) {
    return std::nullopt;
  }
  const auto offset = file_bytes - *footer_bytes;
  return decode_footer(NORI_TRY(view(offset, *footer_bytes)), header_->seed(), offset);
}

Result<std::optional<SegmentReader::CloseFrame>> SegmentReader::close_frame() {
  const auto file_bytes = NORI_TRY(size());
  drop_window();
  // It fills a block, but the block's size is the writer's machine's.
  for (auto block = kBlockBytesMin; block <= kBlockBytesMax; block *= 2) {
    if (file_bytes < header_->first_offset + block) {
      break;
    }
    const auto offset = file_bytes - block;
    const auto bytes = NORI_TRY(view(offset, block));
    const auto frame = decode_frame_header(bytes, place_seed(header_->seed(), offset));
    if (!frame || frame->kind != FrameKind::close || frame->frame_bytes() != block ||
        !payload_matches(*frame, bytes.subspan(kFrameHeaderBytes))) {
      continue;
    }
    auto summary = decode_summary(bytes.subspan(kFrameHeaderBytes));
    if (summary && summary->end_offset == offset) {
      return CloseFrame{.header = *frame, .summary = *std::move(summary), .offset = offset};
    }
  }
  return std::nullopt;
}

}  // namespace nori
