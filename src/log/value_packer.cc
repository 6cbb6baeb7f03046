#include "log/value_packer.h"

#include <algorithm>

namespace nori {

FrameBody ValuePacker::pack(const Record& record, const WalOptions& options,
                            FrameBody::Scratch& scratch) {
  auto stored = record;
  auto compression = record.compression.value_or(options.compression);
  stored.value = buffer_.compress(record.value, compression);
  return {stored, scratch, compression, record.value.size()};
}

FrameBody ValuePacker::pack(const Batch& batch, const WalOptions& options,
                            FrameBody::Scratch& scratch) {
  encoded_.clear();
  auto left = as_byte_view(batch.encoded());
  for (std::uint64_t number = 0; number < batch.record_count(); ++number) {
    auto stored = *decode_record(left);
    const auto value = stored.record.value;
    if (stored.compression == Compression::none && stored.record.op == Operation::put &&
        value.size() >= options.compress_from_bytes &&
        !std::ranges::binary_search(batch.kept_plain(), number)) {
      stored.compression = options.compression;
      stored.plain_bytes = value.size();
      stored.record.value = buffer_.compress(value, stored.compression);
    }
    append_record(encoded_, stored.record, stored.compression, stored.plain_bytes);
  }
  return {as_byte_view(encoded_), batch.record_count(), scratch};
}

}  // namespace nori
