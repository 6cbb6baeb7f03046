#include <fmt/format.h>

#include <memory>
#include <string>
#include <utility>

#include "cli/kv.h"
#include "cli/record_text.h"
#include "cli/report.h"
#include "nori/read_key.h"

namespace nori::cli {

namespace {

struct GetOptions {
  std::filesystem::path directory;
  std::string key;
};

int get(const GetOptions& options) {
  auto found = read_key(options.directory, options.key);
  if (!found) {
    return report(found.error());
  }
  if (!*found) {
    std::string key;
    print_key(options.key, key);
    complain(fmt::format("{}: there is no key {}", options.directory.string(), key));
    return kExitNotThere;
  }
  return print(std::move((*found)->value) + '\n', kExitDone);
}

}  // namespace

void add_kv_get(CLI::App& kv, Command& chosen) {
  CLI::App& command = *kv.add_subcommand("get",
                                         "Print a key's value and a newline. Ends with 1 where "
                                         "there is none. Does not load the store.");
  const auto options = std::make_shared<GetOptions>();
  add_store_directory(command, options->directory);
  add_key(command, options->key);
  command.footer("Example:\n  nori kv get fruit.store apple");
  on_chosen(command, chosen, options, get);
}

}  // namespace nori::cli
