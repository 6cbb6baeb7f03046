// expect(result): the value of a Result, or its Error as an exception, which ends the subject.

#pragma once

#include <stdexcept>
#include <string>
#include <utility>

#include "nori/error.h"

namespace nori::bench {

template <typename T>
T expect(Result<T> result) {
  if (!result) {
    throw std::runtime_error(std::string(error_code_name(result.error().code)) + ": " +
                             result.error().message);
  }
  if constexpr (!std::is_void_v<T>) {
    return *std::move(result);
  }
}

}  // namespace nori::bench
