// What has to be true whatever the input is.

#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace nori::fuzz {

/// Ends the process, where a fuzzer and a debugger notice it, unless `holds`.
inline void require(bool holds, std::string_view what) {
  if (!holds) [[unlikely]] {
    std::fprintf(stderr, "property violated: %.*s\n", static_cast<int>(what.size()), what.data());
    std::abort();
  }
}

/// The same for what answers in words: they are what is wrong.
inline void require_nothing(const std::string& wrong) { require(wrong.empty(), wrong); }

}  // namespace nori::fuzz
