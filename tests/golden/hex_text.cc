#include "tests/golden/hex_text.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <fstream>
#include <iterator>

namespace nori::golden {
namespace {

constexpr std::size_t kBytesPerLine = 16;

std::optional<std::uint64_t> number(std::string_view text, int base) {
  std::uint64_t value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (fault != std::errc{} || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

}  // namespace

std::optional<std::string> from_hex(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size(); i += 3) {
    const auto byte = number(text.substr(i, 2), 16);
    if (!byte || text.size() < i + 2 || (text.size() > i + 2 && text[i + 2] != ' ')) {
      return std::nullopt;
    }
    bytes.push_back(static_cast<char>(*byte));
  }
  return bytes;
}

std::optional<std::string> from_hex_text(std::string_view text) {
  std::string bytes;
  while (!text.empty()) {
    const auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.empty() || line.starts_with('#')) {
      continue;
    }
    const auto colon = line.find(": ");
    if (colon == std::string_view::npos) {
      return std::nullopt;
    }
    if (line.starts_with("size")) {
      const auto size = number(line.substr(colon + 2), 10);
      if (!size || *size < bytes.size()) {
        return std::nullopt;
      }
      bytes.resize(*size, '\0');
      continue;
    }
    const auto offset = number(line.substr(0, colon), 16);
    const auto piece = from_hex(line.substr(colon + 2));
    if (!offset || !piece || *offset < bytes.size()) {
      return std::nullopt;
    }
    bytes.resize(*offset, '\0');
    bytes += *piece;
  }
  return bytes;
}

std::string to_hex_text(std::string_view bytes) {
  std::string text;
  for (std::size_t offset = 0; offset < bytes.size(); offset += kBytesPerLine) {
    const auto line = bytes.substr(offset, kBytesPerLine);
    if (std::ranges::all_of(line, [](char c) { return c == '\0'; })) {
      continue;
    }
    text += fmt::format("{:04x}:", offset);
    for (const char c : line) {
      text += fmt::format(" {:02x}", static_cast<unsigned char>(c));
    }
    text += '\n';
  }
  return text + fmt::format("size: {}\n", bytes.size());
}

std::string read_source_file(std::string_view path) {
  std::ifstream file(fmt::format("{}/{}", NORI_SOURCE_DIR, path), std::ios::binary);
  EXPECT_TRUE(file) << path << " cannot be read";
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace nori::golden
