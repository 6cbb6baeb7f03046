#include "cli/base64.h"

#include <array>
#include <cstdint>

namespace nori::cli {

namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t kNoDigit = 64;

constexpr std::array<std::uint8_t, 256> make_digits() {
  std::array<std::uint8_t, 256> digits{};
  digits.fill(kNoDigit);
  for (std::size_t digit = 0; digit < kAlphabet.size(); ++digit) {
    digits[static_cast<unsigned char>(kAlphabet[digit])] = static_cast<std::uint8_t>(digit);
  }
  return digits;
}
constexpr auto kDigits = make_digits();

constexpr std::uint32_t byte_at(std::string_view text, std::size_t index) {
  return static_cast<unsigned char>(text[index]);
}

}  // namespace

void append_base64(std::string_view bytes, std::string& text) {
  // Three bytes are four digits; of the last one or two bytes, two or three and padding.
  while (!bytes.empty()) {
    const std::size_t count = bytes.size() < 3 ? bytes.size() : 3;
    const std::uint32_t bits = byte_at(bytes, 0) << 16 | (count > 1 ? byte_at(bytes, 1) << 8 : 0) |
                               (count > 2 ? byte_at(bytes, 2) : 0);
    for (std::size_t digit = 0; digit < 4; ++digit) {
      text += digit <= count ? kAlphabet[bits >> (18 - 6 * digit) & 63] : '=';
    }
    bytes.remove_prefix(count);
  }
}

bool decode_base64(std::string_view text, std::string& bytes) {
  bytes.clear();
  if (text.size() % 4 != 0) {
    return false;
  }
  for (; !text.empty(); text.remove_prefix(4)) {
    std::size_t digits = 4;
    if (text.size() == 4) {
      digits -= text.ends_with("==") ? 2U : text.ends_with('=') ? 1U : 0U;
    }
    std::uint32_t bits = 0;
    for (std::size_t digit = 0; digit < digits; ++digit) {
      const std::uint8_t value = kDigits[byte_at(text, digit)];
      if (value == kNoDigit) {
        return false;
      }
      bits |= std::uint32_t{value} << (18 - 6 * digit);
    }
    for (std::size_t byte = 0; byte + 1 < digits; ++byte) {
      bytes += static_cast<char>(bits >> (16 - 8 * byte) & 255);
    }
    // Bits that encode nothing are zero.
    if (digits < 4 && (bits << (8 + 8 * (digits - 1))) != 0) {
      return false;
    }
  }
  return true;
}

}  // namespace nori::cli
