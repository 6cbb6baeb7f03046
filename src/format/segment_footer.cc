#include "format/segment_footer.h"

#include <cstring>

#include "base/crc32c.h"
#include "base/little_endian.h"
#include "format/log_id.h"

namespace nori {
namespace {

constexpr char kMagic[] = "norifoot";
constexpr std::size_t kMagicBytes = 8;
constexpr std::size_t kFooterBytesMin = kMagicBytes + kSummaryBytes + kFooterTrailerBytes;

std::byte* bytes_of(std::string& text) { return reinterpret_cast<std::byte*>(text.data()); }

}  // namespace

void thin_index(SegmentSummary& summary, std::uint64_t bytes_max) {
  auto& index = summary.index;
  while (kSummaryBytes + index.size() * kIndexEntryBytes > bytes_max && !index.empty()) {
    for (std::size_t i = 0; i < index.size() / 2; ++i) {
      index[i] = index[2 * i + 1];
    }
    index.resize(index.size() / 2);
  }
}

std::string encode_summary(const SegmentSummary& summary) {
  std::string bytes(kSummaryBytes + summary.index.size() * kIndexEntryBytes, '\0');
  std::byte* to = bytes_of(bytes);
  for (const auto value :
       {summary.frames, summary.records, summary.padding_bytes, summary.first_sequence,
        summary.end_sequence, summary.first_time_ms, summary.last_time_ms, summary.epoch,
        summary.durable_mark, summary.end_offset}) {
    store_le(to, value);
    to += 8;
  }
  store_le(to, static_cast<std::uint32_t>(summary.index.size()));
  to += 4;
  for (const auto& entry : summary.index) {
    store_le(to, entry.sequence);
    store_le(to + 8, entry.offset);
    store_le(to + 16, entry.time_ms);
    to += kIndexEntryBytes;
  }
  return bytes;
}

std::optional<SegmentSummary> decode_summary(ByteView bytes) {
  if (bytes.size() < kSummaryBytes) {
    return std::nullopt;
  }
  const std::byte* from = bytes.data();
  SegmentSummary summary;
  for (auto* field :
       {&summary.frames, &summary.records, &summary.padding_bytes, &summary.first_sequence,
        &summary.end_sequence, &summary.first_time_ms, &summary.last_time_ms, &summary.epoch,
        &summary.durable_mark, &summary.end_offset}) {
    *field = load_le<std::uint64_t>(from);
    from += 8;
  }
  const auto index_entries = load_le<std::uint32_t>(from);
  from += 4;
  if (index_entries > (bytes.size() - kSummaryBytes) / kIndexEntryBytes ||
      summary.first_sequence > summary.end_sequence || summary.end_sequence > kCountMax) {
    return std::nullopt;
  }
  summary.index.resize(index_entries);
  std::uint64_t offset_before = 0;
  for (auto& entry : summary.index) {
    entry = {.sequence = load_le<std::uint64_t>(from),
             .offset = load_le<std::uint64_t>(from + 8),
             .time_ms = load_le<std::uint64_t>(from + 16)};
    if (entry.offset <= offset_before || entry.offset >= summary.end_offset) {
      return std::nullopt;
    }
    offset_before = entry.offset;
    from += kIndexEntryBytes;
  }
  return summary;
}

std::string encode_footer(const SegmentSummary& summary, std::uint32_t segment_seed,
                          std::uint64_t block_bytes) {
  std::string bytes(kMagic, kMagicBytes);
  bytes += encode_summary(summary);
  bytes.resize(round_up(bytes.size() + kFooterTrailerBytes, block_bytes), '\0');
  std::byte* trailer = bytes_of(bytes) + bytes.size() - kFooterTrailerBytes;
  store_le(trailer, std::uint64_t{bytes.size()});
  std::memcpy(trailer + 8, kMagic, kMagicBytes);
  store_le(trailer + 16, crc32c(place_seed(segment_seed, summary.end_offset),
                                as_byte_view(bytes).first(bytes.size() - 4)));
  return bytes;
}

std::optional<std::uint64_t> decode_footer_bytes(ByteView trailer) noexcept {
  if (trailer.size() != kFooterTrailerBytes ||
      std::memcmp(trailer.data() + 8, kMagic, kMagicBytes) != 0) {
    return std::nullopt;
  }
  const auto footer_bytes = load_le<std::uint64_t>(trailer.data());
  if (footer_bytes < kFooterBytesMin) {
    return std::nullopt;
  }
  return footer_bytes;
}

std::optional<SegmentSummary> decode_footer(ByteView footer, std::uint32_t segment_seed,
                                            std::uint64_t offset) {
  if (footer.size() < kFooterBytesMin || std::memcmp(footer.data(), kMagic, kMagicBytes) != 0 ||
      load_le<std::uint32_t>(footer.data() + footer.size() - 4) !=
          crc32c(place_seed(segment_seed, offset), footer.first(footer.size() - 4))) {
    return std::nullopt;
  }
  auto summary = decode_summary(
      footer.subspan(kMagicBytes, footer.size() - kMagicBytes - kFooterTrailerBytes));
  if (!summary || summary->end_offset != offset) {
    return std::nullopt;
  }
  return summary;
}

}  // namespace nori
