// Values on the command line, and how an option takes them.

#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "nori/options.h"

namespace nori::cli {

/// A value, or why the text is none.
template <typename T>
using Parsed = std::expected<T, std::string>;

/// `4096`, `64K`, `16MiB`, `1G`: powers of 1024.
[[nodiscard]] Parsed<std::uint64_t> parse_bytes(std::string_view text);

/// `always`, `os`, `batch` or `batch=MS`.
[[nodiscard]] Parsed<FsyncPolicy> parse_fsync_policy(std::string_view text);

/// `500ms`, `30s`, `15m`, `12h`, `7d`; more than zero.
[[nodiscard]] Parsed<std::chrono::milliseconds> parse_duration(std::string_view text);

/// A number, `low` at least.
[[nodiscard]] Parsed<std::uint64_t> parse_count(std::string_view text, std::uint64_t low);

/// WalOptions::segment_bytes within its limits.
[[nodiscard]] Parsed<std::uint64_t> parse_segment_bytes(std::string_view text);

/// WalOptions::ring_bytes within its limits, or `none`.
[[nodiscard]] Parsed<std::uint64_t> parse_ring_bytes(std::string_view text);

/// One of several words.
template <typename T>
[[nodiscard]] Parsed<T> parse_choice(
    std::string_view text, std::initializer_list<std::pair<std::string_view, T>> choices) {
  std::string names;
  for (const auto& [name, value] : choices) {
    if (name == text) {
      return value;
    }
    names += names.empty() ? "" : ", ";
    names += name;
  }
  return std::unexpected(std::string(text) + " is none of " + names);
}

/// Adds an option whose text `parse` turns into `value`; its refusal is a usage error.
template <typename T, typename Parse>
CLI::Option* add_parsed_option(CLI::App& app, const std::string& name, T& value, Parse parse,
                               const std::string& syntax, const std::string& description) {
  return app
      .add_option_function<std::string>(
          name,
          [&value, name, parse](const std::string& text) {
            auto parsed = parse(std::string_view(text));
            if (!parsed) {
              throw CLI::ValidationError(name, parsed.error());
            }
            value = *std::move(parsed);
          },
          description)
      ->type_name(syntax);
}

/// Adds the argument DIR.
inline void add_directory(CLI::App& app, std::filesystem::path& directory,
                          const std::string& description = "the log's directory") {
  app.add_option_function<std::string>(
         "DIR", [&directory](const std::string& text) { directory = text; }, description)
      ->required()
      ->type_name("");
}

/// What the command line asked for; returns the exit code.
using Command = std::function<int()>;

/// Makes `chosen` run `run(*options)` if the command line names `app`.
template <typename Options>
void on_chosen(CLI::App& app, Command& chosen, std::shared_ptr<Options> options,
               int (*run)(const Options&)) {
  app.callback([&chosen, options = std::move(options), run] {
    chosen = [options, run] { return run(*options); };
  });
}

}  // namespace nori::cli
