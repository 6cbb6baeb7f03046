// NORI_TRY(expression): the value of a Result, or return its Error from this function.
//
//   const auto file = NORI_TRY(directory.open(name, ...));
//   NORI_TRY(file->sync());

#pragma once

#include <expected>
#include <utility>

// A statement expression: both compilers of this project have it, and it lets the happy path read
// straight down. It must not be used in a function that returns something other than a Result.
#define NORI_TRY(...)                                             \
  __extension__({                                                 \
    auto nori_try_result = (__VA_ARGS__);                         \
    if (!nori_try_result) {                                       \
      return std::unexpected(std::move(nori_try_result).error()); \
    }                                                             \
    ::nori::detail::take_value(std::move(nori_try_result));       \
  })

namespace nori::detail {

template <typename T, typename E>
T take_value(std::expected<T, E>&& result) {
  return *std::move(result);
}
template <typename E>
void take_value(std::expected<void, E>&& /*result*/) {}

}  // namespace nori::detail
