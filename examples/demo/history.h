// The demo's input: what a package manager would have written to a log while it made this machine
// what it is. Every package is unpacked, then configured, its files are registered, some packages
// are removed again. The records are real: Debian's package database.

#pragma once

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nori/record.h"

namespace demo {

/// One record of the input. Record number N of the log must be step number N.
struct Step {
  nori::Operation op = nori::Operation::put;
  std::string key;
  std::string value;
  /// The last of those that are appended as one.
  bool ends_batch = true;

  [[nodiscard]] nori::Record record() const {
    return op == nori::Operation::put ? nori::Record::put(key, value) : nori::Record::remove(key);
  }
};

/// What the log's records amount to: the newest value of every key.
using State = std::map<std::string, std::string, std::less<>>;

inline void apply(State& state, nori::Operation op, std::string_view key, std::string_view value) {
  if (op == nori::Operation::put) {
    state.insert_or_assign(std::string(key), std::string(value));
  } else if (const auto found = state.find(key); found != state.end()) {
    state.erase(found);
  }
}

/// The steps, in order, and what they add up to.
class History {
 public:
  /// From the package database, or where there is none from the names below /usr/share.
  static History of_this_machine() {
    History history;
    history.read_package_database("/var/lib/dpkg");
    if (history.steps_.empty()) {
      history.read_file_names("/usr/share");
    }
    return history;
  }

  [[nodiscard]] const std::vector<Step>& steps() const { return steps_; }
  [[nodiscard]] const State& final_state() const { return state_; }
  /// Where the records come from, in words.
  [[nodiscard]] const std::string& source() const { return source_; }
  [[nodiscard]] std::size_t updates() const { return updates_; }
  [[nodiscard]] std::size_t removals() const { return removals_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  // Every so many packages, or files, one is removed again.
  static constexpr std::size_t kRemoveEvery = 6;
  static constexpr std::string_view kInstalled = "Status: install ok installed";

  void put(std::string key, std::string value) {
    bytes_ += key.size() + value.size();
    updates_ += state_.contains(key) ? 1 : 0;
    apply(state_, nori::Operation::put, key, value);
    steps_.push_back(
        {.op = nori::Operation::put, .key = std::move(key), .value = std::move(value)});
  }
  void remove(std::string key, bool ends_batch) {
    bytes_ += key.size();
    ++removals_;
    apply(state_, nori::Operation::remove, key, {});
    steps_.push_back({.op = nori::Operation::remove,
                      .key = std::move(key),
                      .value = {},
                      .ends_batch = ends_batch});
  }

  void read_package_database(const std::filesystem::path& database) {
    std::ifstream status(database / "status");
    std::string line;
    std::string paragraph;
    std::vector<std::string> removed_later;
    std::size_t packages = 0;
    const auto take = [&] {
      if (const auto name = field(paragraph, "Package: "); !name.empty()) {
        install(database, name, paragraph);
        if (++packages % kRemoveEvery == 0) {
          removed_later.push_back(name);
        }
        // A removal comes some packages after its installation.
        if (removed_later.size() > 3) {
          uninstall(removed_later.front());
          removed_later.erase(removed_later.begin());
        }
      }
      paragraph.clear();
    };
    while (std::getline(status, line)) {
      if (line.empty()) {
        take();
      } else {
        paragraph += line + '\n';
      }
    }
    take();
    source_ = "Debian's package database, " + (database / "status").string() +
              " and the file lists of " + std::to_string(packages) + " packages";
  }

  // As dpkg does it: unpacked first, then its files, then configured.
  void install(const std::filesystem::path& database, const std::string& name,
               const std::string& paragraph) {
    auto unpacked = paragraph;
    if (const auto at = unpacked.find(kInstalled); at != std::string::npos) {
      unpacked.replace(at, kInstalled.size(), "Status: install ok unpacked");
    }
    put("package/" + name, unpacked);

    const auto lists = database / "info";
    std::ifstream files(lists / (name + ".list"));
    if (!files) {
      files.open(lists / (name + ":" + field(paragraph, "Architecture: ") + ".list"));
    }
    for (std::string file; std::getline(files, file);) {
      put("file" + file, name);
      files_[name].push_back("file" + file);
    }

    put("package/" + name, paragraph);
  }

  // As one batch: after a crash the package is there with all of its files, or with none.
  void uninstall(const std::string& name) {
    for (const auto& file : files_[name]) {
      // A directory may have become another package's too.
      if (const auto owner = state_.find(file); owner != state_.end() && owner->second == name) {
        remove(file, false);
      }
    }
    remove("package/" + name, true);
  }

  void read_file_names(const std::filesystem::path& top) {
    const auto options = std::filesystem::directory_options::skip_permission_denied;
    std::error_code failed;
    std::vector<std::string> names;
    for (auto it = std::filesystem::recursive_directory_iterator(top, options, failed);
         !failed && it != std::filesystem::recursive_directory_iterator(); it.increment(failed)) {
      names.push_back("file" + it->path().string());
    }
    for (std::size_t i = 0; i < names.size(); ++i) {
      put(names[i], "seen");
      if (i % 4 == 3) {
        put(names[i - 1], "seen again");
      }
      if (i % kRemoveEvery == kRemoveEvery - 1) {
        remove(names[i - 2], false);
        remove(names[i - 4], true);
      }
    }
    source_ = "the " + std::to_string(names.size()) + " file names below " + top.string() +
              " (there is no Debian package database here)";
  }

  // The rest of the line that begins with `name`.
  static std::string field(const std::string& paragraph, std::string_view name) {
    std::size_t at = 0;
    while (at < paragraph.size()) {
      const auto end = paragraph.find('\n', at);
      const std::string_view line(paragraph.data() + at, end - at);
      if (line.starts_with(name)) {
        return std::string(line.substr(name.size()));
      }
      at = end + 1;
    }
    return {};
  }

  std::vector<Step> steps_;
  State state_;
  std::string source_;
  std::map<std::string, std::vector<std::string>> files_;
  std::size_t updates_ = 0;
  std::size_t removals_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace demo
