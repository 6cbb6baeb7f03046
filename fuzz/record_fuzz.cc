// Records from any bytes: what is decoded lies within them, and encodes to the same bytes.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "base/varint.h"
#include "format/record.h"
#include "format/value_compression.h"
#include "fuzz/require.h"
#include "log/frame_body.h"
#include "nori/record.h"

namespace nori::fuzz {
namespace {

bool equal(const Record& a, const Record& b) {
  return a.op == b.op && a.key == b.key && a.value == b.value && a.expires_at == b.expires_at;
}

bool is_within(std::string_view text, ByteView bytes) {
  const auto whole = as_text(bytes);
  return text.empty() ||
         (text.data() >= whole.data() && text.data() + text.size() <= whole.data() + whole.size());
}

// A time beyond what a TimePoint counts is read as the nearest one.
bool is_clamped(const Record& record) {
  return record.expires_at && (*record.expires_at == time_point_of(INT64_MIN) ||
                               *record.expires_at == time_point_of(INT64_MAX));
}

std::string joined(const FrameBody& body) {
  std::string bytes(as_text(body.front().subspan(kFrameHeaderBytes)));
  for (const auto piece : body.rest()) {
    bytes += as_text(piece);
  }
  return bytes;
}

void check_record(const StoredRecord& stored, ByteView bytes) {
  const auto& record = stored.record;
  require(is_within(record.key, bytes) && is_within(record.value, bytes), "views out of bounds");
  std::string encoded;
  append_record(encoded, record, stored.compression, stored.plain_bytes);
  require(is_clamped(record) || encoded == as_text(bytes), "it encodes to other bytes");
  require(encoded.size() == bytes.size(), "it encodes to another length");
  auto left = as_byte_view(encoded);
  const auto again = decode_record(left);
  require(again && equal(again->record, record) && again->compression == stored.compression &&
              again->plain_bytes == stored.plain_bytes && left.empty(),
          "encoded, it decodes to another");

  FrameBody::Scratch scratch;
  const FrameBody body(record, scratch, stored.compression, stored.plain_bytes);
  require(joined(body) == encoded, "alone it encodes otherwise than in a batch");
  require(body.payload_bytes() == encoded.size(), "its length is not its bytes'");
  FrameBody::Scratch other;
  require(body.payload_crc32c() == FrameBody(as_byte_view(encoded), 1, other).payload_crc32c(),
          "its checksum differs");

  // What it was made from comes back as long as it says, or not at all.
  ValueBuffer buffer;
  std::string_view value;
  if (stored.compression != Compression::none &&
      buffer.decompress(stored.compression, record.value, stored.plain_bytes, value)) {
    require(value.size() == stored.plain_bytes, "a value of another length");
  }

  auto cut = bytes.first(bytes.size() - 1);
  require(!decode_record(cut) && cut.size() == bytes.size() - 1, "a record that lacks its end");
}

void check_varint(ByteView bytes) {
  std::uint64_t value = 0;
  const auto* const end = load_varint(bytes.data(), bytes.data() + bytes.size(), value);
  if (end == nullptr) {
    return;
  }
  std::array<std::byte, kVarintBytesMax> stored;
  const auto* const stored_end = store_varint(stored.data(), value);
  require(std::ranges::equal(ByteView(bytes.data(), end), ByteView(stored.data(), stored_end)),
          "a number in a form that is not its shortest");
}

}  // namespace
}  // namespace nori::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nori;
  const auto bytes = std::as_bytes(std::span(data, size));
  fuzz::check_varint(bytes);
  for (auto left = bytes; !left.empty();) {
    const auto before = left;
    const auto record = decode_record(left);
    if (!record) {
      fuzz::require(left.data() == before.data() && left.size() == before.size(),
                    "what holds no record was changed");
      break;
    }
    fuzz::require(left.size() < before.size(), "a record of no bytes");
    fuzz::check_record(*record, before.first(before.size() - left.size()));
  }
  return 0;
}
