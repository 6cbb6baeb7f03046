// Bytes as text that people can read and review: what the golden files and docs/format.md hold.
//
//   0010: 6e 6f 72 69 77 61 6c 0a  ...    an offset in hex, then up to 16 bytes
//   size: 128                             bytes in all; what no line holds is zeros
//   # ...                                 a comment

#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace nori::golden {

/// The text's bytes; nothing if it is not as above, or lines overlap.
[[nodiscard]] std::optional<std::string> from_hex_text(std::string_view text);
[[nodiscard]] std::string to_hex_text(std::string_view bytes);

/// Bytes written as "6e 6f"; nothing if it is anything else.
[[nodiscard]] std::optional<std::string> from_hex(std::string_view text);

/// The whole file, below the root of the source tree; fails the test if there is none.
[[nodiscard]] std::string read_source_file(std::string_view path);

}  // namespace nori::golden
