// A piece of work for each of some threads.

#pragma once

#include <cstddef>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace nori {

/// Calls work(0) to work(count - 1), each on a thread of its own, the first and those for which
/// there is no thread to be had on this one. Returns when all have; throws what the first of them
/// threw.
template <typename Work>
void run_together(std::size_t count, Work&& work) {
  std::vector<std::exception_ptr> thrown(count);
  const auto run = [&](std::size_t i) noexcept {
    try {
      work(i);
    } catch (...) {
      thrown[i] = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> others;
    others.reserve(count);
    for (std::size_t i = 1; i < count; ++i) {
      try {
        others.emplace_back(run, i);
      } catch (const std::system_error&) {
        run(i);
      }
    }
    run(0);
  }
  for (const auto& what : thrown) {
    if (what) {
      std::rethrow_exception(what);
    }
  }
}

}  // namespace nori
