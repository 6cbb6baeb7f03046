// What the kernel says of this process.

#pragma once

#include <filesystem>
#include <fstream>
#include <string>

namespace nori::bench {

/// The number behind `name` in a file of /proc; 0 if there is none.
[[nodiscard]] inline double proc_number(const std::string& file, const std::string& name) {
  std::ifstream lines(file);
  for (std::string word; lines >> word;) {
    if (word == name) {
      double number = 0;
      lines >> number;
      return number;
    }
  }
  return 0;
}

[[nodiscard]] inline double resident_bytes() {
  return proc_number("/proc/self/status", "VmRSS:") * 1024;
}

/// Bytes it has caused to be written to a device: counted when a direct write is sent, and when a
/// page of the page cache or of a mapping becomes dirty.
[[nodiscard]] inline double device_bytes() { return proc_number("/proc/self/io", "write_bytes:"); }

/// How often its threads went to sleep by themselves, to wait for a disk for example; those that
/// have ended are not counted.
[[nodiscard]] inline double sleeps() {
  double total = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    total += proc_number(task.path() / "status", "voluntary_ctxt_switches:");
  }
  return total;
}

}  // namespace nori::bench
