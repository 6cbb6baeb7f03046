// The subcommands of `nori kv`: each adds itself. What they share.

#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "cli/arguments.h"
#include "nori/store.h"

namespace nori::cli {

void add_kv_get(CLI::App& kv, Command& chosen);
void add_kv_put(CLI::App& kv, Command& chosen);
void add_kv_del(CLI::App& kv, Command& chosen);
void add_kv_scan(CLI::App& kv, Command& chosen);
void add_kv_load(CLI::App& kv, Command& chosen);
void add_kv_dump(CLI::App& kv, Command& chosen);
void add_kv_stat(CLI::App& kv, Command& chosen);
void add_kv_checkpoint(CLI::App& kv, Command& chosen);
void add_kv_compact(CLI::App& kv, Command& chosen);

/// Adds the argument DIR.
inline void add_store_directory(CLI::App& app, std::filesystem::path& directory) {
  add_directory(app, directory, "the store's directory, which is a log's");
}

/// Adds the argument KEY: bytes as they are, none escaped.
inline void add_key(CLI::App& app, std::string& key) {
  app.add_option("KEY", key, "the key, as it is")->required()->type_name("");
}

/// All of it, as it is now. Changes nothing on disk, whoever writes to it.
[[nodiscard]] inline Result<OpenedStore> open_store_for_reading(
    const std::filesystem::path& directory) {
  StoreOptions options;
  options.wal.directory = directory;
  options.wal.mode = OpenMode::read_only;
  return Store::open(std::move(options));
}

}  // namespace nori::cli
