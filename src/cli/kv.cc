#include "cli/kv.h"

#include "cli/commands.h"

namespace nori::cli {

void add_kv(CLI::App& tool, Command& chosen) {
  CLI::App& kv = *tool.add_subcommand(
      "kv", "A key-value store on a log. Every other command works on its directory too.");
  kv.require_subcommand(1);
  kv.footer(
      "Example:\n  nori kv put fruit.store apple red\n  nori kv get fruit.store apple\n"
      "\nBehind -- everything is an argument: nori kv get fruit.store -- --key");
  add_kv_get(kv, chosen);
  add_kv_put(kv, chosen);
  add_kv_del(kv, chosen);
  add_kv_scan(kv, chosen);
  add_kv_load(kv, chosen);
  add_kv_dump(kv, chosen);
  add_kv_stat(kv, chosen);
  add_kv_checkpoint(kv, chosen);
  add_kv_compact(kv, chosen);
}

}  // namespace nori::cli
