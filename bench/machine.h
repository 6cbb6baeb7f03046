// What a measurement was made on.

#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace nori::bench {

/// One line a fact: processor, kernel, filesystem of `directory` and its device, compiler.
[[nodiscard]] std::vector<std::string> describe_machine(const std::filesystem::path& directory);

}  // namespace nori::bench
