// Compresses what is about to be appended, in the thread that appends it.

#pragma once

#include <cstdint>
#include <string>

#include "base/bytes.h"
#include "format/value_compression.h"
#include "log/frame_body.h"
#include "nori/options.h"
#include "nori/record.h"

namespace nori {

/// Makes the bodies of frames whose values are compressed as `compression` and
/// `compress_from_bytes`, or a record itself, say.
///
/// Threads: one at a time. Bodies are valid until the next one is made.
class ValuePacker {
 public:
  /// Whether there is anything to compress: then the other functions are worth calling.
  [[nodiscard]] static bool wants(const Record& record, const WalOptions& options) noexcept {
    return record.op == Operation::put &&
           (record.compression ? *record.compression != Compression::none
                               : options.compression != Compression::none &&
                                     record.value.size() >= options.compress_from_bytes);
  }
  [[nodiscard]] static bool wants(const Batch& batch, const WalOptions& options) noexcept {
    return options.compression != Compression::none &&
           batch.largest_value_bytes() >= options.compress_from_bytes;
  }

  [[nodiscard]] FrameBody pack(const Record& record, const WalOptions& options,
                               FrameBody::Scratch& scratch);
  [[nodiscard]] FrameBody pack(const Batch& batch, const WalOptions& options,
                               FrameBody::Scratch& scratch);

 private:
  ValueBuffer buffer_;
  std::string encoded_;
};

}  // namespace nori
