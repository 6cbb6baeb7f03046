// Bytes as Base64 (RFC 4648, the standard alphabet, padded).

#pragma once

#include <string>
#include <string_view>

namespace nori::cli {

/// Adds `bytes` to `text`, encoded.
void append_base64(std::string_view bytes, std::string& text);

/// Replaces `bytes` by what `text` encodes. False, and `bytes` unspecified, if it is not exactly
/// what append_base64 writes for some bytes.
[[nodiscard]] bool decode_base64(std::string_view text, std::string& bytes);

}  // namespace nori::cli
