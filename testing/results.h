// What a call answers, as a test takes it: the value, or the error's name.

#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "nori/error.h"

namespace nori::testing {

/// The value. Without one it throws std::runtime_error with the error's name and message, which
/// ends the test with them.
template <typename T>
T ok(Result<T> result) {
  if (!result) {
    const auto& error = result.error();
    throw std::runtime_error(std::string(error_code_name(error.code)) + ": " + error.message);
  }
  if constexpr (!std::is_void_v<T>) {
    return *std::move(result);
  }
}

/// The error's name, or "ok".
template <typename T>
[[nodiscard]] std::string_view code_of(const Result<T>& result) {
  return result ? "ok" : error_code_name(result.error().code);
}

}  // namespace nori::testing
