// nori: the command line tool (docs/tool.md).

#include <fmt/format.h>

#include <csignal>
#include <exception>
#include <string>

#include "cli/commands.h"
#include "cli/report.h"

namespace {

using namespace nori::cli;

int run_tool(int argc, char** argv) {
  CLI::App tool("An append-only, crash-safe log of records in a directory.", "nori");
  tool.set_version_flag("--version", "nori " NORI_VERSION);
  tool.require_subcommand(1);
  tool.get_formatter()->column_width(38);
  tool.footer(
      "Exit codes: 0 done; 1 damage, or what was asked for is not there; 2 usage; 3 failed.");

  Command chosen;
  add_append(tool, chosen);
  add_dump(tool, chosen);
  add_tail(tool, chosen);
  add_stat(tool, chosen);
  add_verify(tool, chosen);
  add_gc(tool, chosen);
  add_compact(tool, chosen);
  add_snapshot(tool, chosen);
  add_consumer(tool, chosen);
  add_kv(tool, chosen);
  try {
    tool.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return tool.exit(help);
  } catch (const CLI::ParseError& error) {
    std::string name = "nori";
    for (const CLI::App* app = &tool; !app->get_subcommands().empty();) {
      app = app->get_subcommands().front();
      name += " " + app->get_name();
    }
    complain(fmt::format("{}; see {} --help", error.what(), name));
    return kExitUsage;
  }
  return chosen();
}

}  // namespace

int main(int argc, char** argv) {
  // A reader that goes away is noticed where it is written to (EPIPE).
  static_cast<void>(std::signal(SIGPIPE, SIG_IGN));
  int exit_code = kExitFailed;
  try {
    exit_code = run_tool(argc, argv);
  } catch (const std::exception& error) {
    complain(fmt::format("{}; what was appended before is kept", error.what()));
  }
  if (exit_code > kExitBySignal) {
    end_by_signal(exit_code - kExitBySignal);
  }
  return exit_code;
}
