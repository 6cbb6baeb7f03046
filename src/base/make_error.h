// make_error(code, "{}: ... ", ...): an unexpected Error with a formatted message.

#pragma once

#include <fmt/format.h>

#include <expected>
#include <utility>

#include "nori/error.h"

namespace nori {

template <typename... Args>
[[nodiscard]] std::unexpected<Error> make_error(ErrorCode code, fmt::format_string<Args...> text,
                                                Args&&... args) {
  return std::unexpected(
      Error{.code = code, .message = fmt::format(text, std::forward<Args>(args)...)});
}

}  // namespace nori
