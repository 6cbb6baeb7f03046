#include "nori/error.h"

namespace nori {

std::string_view error_code_name(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::not_a_log:
      return "not_a_log";
    case ErrorCode::unsupported_version:
      return "unsupported_version";
    case ErrorCode::permission:
      return "permission";
    case ErrorCode::locked:
      return "locked";
    case ErrorCode::invalid_argument:
      return "invalid_argument";
    case ErrorCode::too_large:
      return "too_large";
    case ErrorCode::no_space:
      return "no_space";
    case ErrorCode::io:
      return "io";
    case ErrorCode::damaged:
      return "damaged";
    case ErrorCode::gone:
      return "gone";
    case ErrorCode::not_a_record:
      return "not_a_record";
    case ErrorCode::closed:
      return "closed";
    case ErrorCode::busy:
      return "busy";
    case ErrorCode::would_block:
      return "would_block";
  }
  return "unknown";
}

}  // namespace nori
