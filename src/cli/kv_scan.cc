// nori kv scan and dump: what a store has, in the order of its keys.

#include <fmt/format.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "cli/kv.h"
#include "cli/output.h"
#include "cli/record_printer.h"
#include "cli/record_text.h"
#include "cli/report.h"

namespace nori::cli {

namespace {

struct ScanArguments {
  std::filesystem::path directory;
  std::string prefix;
  std::string from;
  std::optional<std::string> to;
  std::uint64_t limit = 0;
  bool reverse = false;
  bool keys = false;
  bool json = false;
};

struct DumpArguments {
  std::filesystem::path directory;
  TextFormat format = TextFormat::jsonl;
};

// Prints what is found; the exit code.
template <typename Print>
int print_entries(const std::filesystem::path& directory, const ScanOptions& options,
                  Print&& print) {
  const auto opened = open_store_for_reading(directory);
  if (!opened) {
    return report(opened.error());
  }
  auto scan = opened->store.scan(options);
  if (!scan) {
    return report(scan.error());
  }
  Output output(STDOUT_FILENO);
  bool goes_on = true;
  while (goes_on) {
    const auto entry = scan->next();
    if (!entry) {
      break;
    }
    print(*entry, output.text());
    goes_on = output.write_if_full();
  }
  return output.flush() ? kExitDone : report_output_failure(output.failure());
}

int scan(const ScanArguments& arguments) {
  return print_entries(arguments.directory,
                       {.prefix = arguments.prefix,
                        .from = arguments.from,
                        .to = arguments.to,
                        .limit = arguments.limit,
                        .reverse = arguments.reverse},
                       [&](const StoreEntry& entry, std::string& text) {
                         if (arguments.keys) {
                           print_key(entry.key, text);
                           text += '\n';
                         } else if (arguments.json) {
                           print_jsonl_with_version(entry, text);
                         } else {
                           print_tsv(entry, text);
                         }
                       });
}

int dump(const DumpArguments& arguments) {
  std::uint64_t expiries_lost = 0;
  const int exit_code =
      print_entries(arguments.directory, {}, [&](const StoreEntry& entry, std::string& text) {
        if (arguments.format == TextFormat::tsv) {
          print_tsv(entry, text);
          expiries_lost += entry.expires_at ? 1U : 0U;
        } else {
          print_jsonl(entry, text);
        }
      });
  if (exit_code == kExitDone) {
    report_expiries_lost(expiries_lost);
  }
  return exit_code;
}

}  // namespace

void add_kv_scan(CLI::App& kv, Command& chosen) {
  CLI::App& command = *kv.add_subcommand(
      "scan",
      "Print keys and values as tsv, in order. Loads the store; works beside a live writer.");
  const auto arguments = std::make_shared<ScanArguments>();
  add_store_directory(command, arguments->directory);
  command.add_option("--prefix", arguments->prefix, "only keys that begin so")->type_name("KEY");
  command.add_option("--from", arguments->from, "only keys from this one on")->type_name("KEY");
  command.add_option("--to", arguments->to, "only keys before this one")->type_name("KEY");
  add_parsed_option(
      command, "--limit", arguments->limit,
      [](std::string_view text) { return parse_count(text, 1); }, "N", "stop after N keys");
  command.add_flag("--reverse", arguments->reverse, "from the last to the first");
  auto* const keys = command.add_flag("--keys", arguments->keys, "print keys alone");
  command
      .add_flag("--json", arguments->json,
                "print jsonl, with when each expires and which record\nit is from")
      ->excludes(keys);
  command.footer("Example:\n  nori kv scan fruit.store --prefix ap --limit 10");
  on_chosen(command, chosen, arguments, scan);
}

void add_kv_dump(CLI::App& kv, Command& chosen) {
  CLI::App& command = *kv.add_subcommand(
      "dump",
      "Print all keys and values, for kv load. Loads the store; works beside a live writer.");
  const auto arguments = std::make_shared<DumpArguments>();
  add_store_directory(command, arguments->directory);
  add_print_format(command, arguments->format);
  command.footer("Example:\n  nori kv dump fruit.store | nori kv load copy.store");
  on_chosen(command, chosen, arguments, dump);
}

}  // namespace nori::cli
