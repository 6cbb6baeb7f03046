#include "log/ring_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/make_error.h"
#include "base/try.h"
#include "segment/segment_name.h"

namespace nori {
namespace {

constexpr std::uint64_t kWindowBytes = 64 * 1024;

}  // namespace

Result<std::unique_ptr<RingView>> RingView::open(io::Directory& directory, const LogId& log_id) {
  auto file = directory.open(kRingName, io::Access::read, io::Creation::existing);
  if (!file) {
    if (file.error().system_errno == ENOENT) {
      return nullptr;
    }
    return std::unexpected(std::move(file).error());
  }
  std::array<std::byte, kRingHeaderBytes> bytes{};
  const auto bytes_read = NORI_TRY((*file)->read_at(0, bytes));
  const auto header = decode_ring_header(ByteView(bytes).first(bytes_read));
  if (!header && header.error().fault == HeaderFault::unsupported_version) {
    // The newest records may be in it.
    return make_error(ErrorCode::unsupported_version,
                      "{}: format version {} is newer than this library's; use a newer one",
                      (directory.path() / kRingName).string(), header.error().version);
  }
  if (!header || header->log_id != log_id ||
      NORI_TRY((*file)->size()) < kRingDataOffset + header->ring_bytes) {
    return nullptr;
  }
  std::unique_ptr<RingView> view(new RingView);
  view->file_ = *std::move(file);
  view->log_id_ = log_id;
  view->ring_bytes_ = header->ring_bytes;
  return view;
}

std::string unreadable_ring_note(const Error& error) {
  return fmt::format("{}; records that are only in the ring are not seen", error.message);
}

bool RingView::is_current(io::Directory& directory) const {
  const auto id = directory.id_of(kRingName);
  return id && *id == file_->id();
}

Result<std::optional<RingMark>> RingView::mark() {
  std::array<std::byte, kRingMarkOffset + 2 * kRingMarkStride> bytes{};
  NORI_TRY(file_->read_at(kRingMarkOffset, ByteSpan(bytes).subspan(kRingMarkOffset)));
  return decode_ring_mark(bytes, log_id_);
}

Result<ByteView> RingView::view(std::uint64_t address, std::uint64_t bytes) {
  const auto index = address & (ring_bytes_ - 1);
  const auto skip = (index - window_index_) & (ring_bytes_ - 1);
  if (skip + bytes <= window_bytes_) {
    return ByteView(window_).subspan(skip, bytes);
  }
  const auto wanted = std::min(std::max(bytes, kWindowBytes), ring_bytes_);
  window_bytes_ = 0;
  window_.resize(std::max<std::size_t>(window_.size(), wanted));
  const auto before_wrap = std::min(wanted, ring_bytes_ - index);
  NORI_TRY(file_->read_at(kRingDataOffset + index, ByteSpan(window_).first(before_wrap)));
  if (before_wrap < wanted) {
    NORI_TRY(file_->read_at(kRingDataOffset,
                            ByteSpan(window_).subspan(before_wrap, wanted - before_wrap)));
  }
  window_index_ = index;
  window_bytes_ = wanted;
  return ByteView(window_).first(std::min(bytes, wanted));
}

Result<std::optional<FrameHeader>> RingView::header_at(std::uint32_t segment_seed,
                                                       std::uint64_t offset,
                                                       std::uint64_t address) {
  return decode_frame_header(NORI_TRY(view(address, kFrameHeaderBytes)),
                             place_seed(segment_seed, offset));
}

Result<std::optional<ByteView>> RingView::payload_at(const FrameHeader& header,
                                                     std::uint64_t address) {
  if (header.frame_bytes() > ring_bytes_) {
    return std::nullopt;
  }
  const auto payload = NORI_TRY(view(address, header.frame_bytes())).subspan(kFrameHeaderBytes);
  if (!payload_matches(header, payload)) {
    return std::nullopt;
  }
  return payload;
}

}  // namespace nori
