#include "bench/machine.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>
#include <thread>

namespace nori::bench {
namespace {

std::string processor_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name")) {
      return line.substr(line.find(':') + 2);
    }
  }
  return "unknown processor";
}

std::string first_word_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// "ext4 on vda (write back cache, not rotating)", as far as the kernel says.
std::string describe_filesystem(const std::filesystem::path& directory) {
  struct stat status{};
  if (::stat(directory.c_str(), &status) != 0) {
    return "unknown filesystem";
  }
  const auto device = fmt::format("{}:{}", major(status.st_dev), minor(status.st_dev));
  // A line: id parent major:minor root place options... - type source options
  std::string type = "unknown filesystem";
  std::string source = device;
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string id, parent, number;
    words >> id >> parent >> number;
    const std::size_t dash = line.find(" - ");
    if (number == device && dash != std::string::npos) {
      std::istringstream behind(line.substr(dash + 3));
      behind >> type >> source;
      break;
    }
  }
  // A partition's queue is its disk's.
  const auto block = std::filesystem::path("/sys/dev/block") / device;
  std::error_code missing;
  const auto queue =
      std::filesystem::exists(block / "queue", missing) ? block / "queue" : block / "../queue";
  std::string cache = first_word_of(queue / "write_cache");
  cache = cache.empty() ? "" : fmt::format(" ({} cache)", cache);
  return fmt::format("{} on {}{}", type, source, cache);
}

}  // namespace

std::vector<std::string> describe_machine(const std::filesystem::path& directory) {
  utsname kernel{};
  static_cast<void>(::uname(&kernel));
  struct sysinfo memory{};
  static_cast<void>(::sysinfo(&memory));
  const double memory_bytes =
      static_cast<double>(memory.totalram) * static_cast<double>(memory.mem_unit);
#ifdef __clang__
  constexpr std::string_view kCompiler = "clang ";
#else
  constexpr std::string_view kCompiler = "g++ ";
#endif
  std::vector<std::string> facts = {
      fmt::format("{}, {} cores, {:.0f} GiB of memory", processor_model(),
                  std::thread::hardware_concurrency(), memory_bytes / (1 << 30)),
      fmt::format("{} {} {}", kernel.sysname, kernel.release, kernel.machine),
      describe_filesystem(directory),
      fmt::format("{}{}", kCompiler, __VERSION__),
  };
  double load = 0;
  if (::getloadavg(&load, 1) == 1) {
    facts.push_back(fmt::format("load average at the start: {:.1f}", load));
  }
#ifndef __OPTIMIZE__
  facts.emplace_back("NOT OPTIMIZED: these numbers mean nothing");
#endif
  return facts;
}

}  // namespace nori::bench
