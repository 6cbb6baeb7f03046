// nori_bench: this log beside its peers and the raw limits (docs/benchmarks.md).

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "bench/codecs.h"
#include "bench/files.h"
#include "bench/machine.h"
#include "bench/plot.h"
#include "bench/report.h"
#include "bench/rows.h"

namespace {

using namespace nori::bench;

struct Arguments {
  bool quick = false;
  bool codecs = false;
  bool list = false;
  std::vector<std::string> rows;
  std::vector<std::string> without;
  std::string json;
  std::string markdown;
  std::string plots;
  std::string directory = (std::filesystem::current_path() / "build" / "bench").string();
  double seconds = 0;
  std::uint32_t rounds = 0;
  std::uint64_t store_keys = 0;
};

void add_options(CLI::App& app, Arguments& arguments) {
  app.add_flag("--quick", arguments.quick, "Seconds instead of minutes: a look, no measurement");
  app.add_option("--rows", arguments.rows, "Only these rows, separated by commas")
      ->delimiter(',')
      ->type_name("NAME,...");
  app.add_option("--without", arguments.without, "Leave out these subjects of all rows")
      ->delimiter(',')
      ->type_name("NAME,...");
  app.add_option("--json", arguments.json, "Write the results as JSON")->type_name("FILE");
  app.add_option("--markdown", arguments.markdown, "Write what is printed to a file as well")
      ->type_name("FILE");
  app.add_option("--plots", arguments.plots, "Draw them, as SVG files in a folder")
      ->type_name("DIR");
  app.add_option("--dir", arguments.directory,
                 "Where to write: a folder on the disk to be measured (default: build/bench)")
      ->type_name("DIR");
  app.add_option("--seconds", arguments.seconds, "How long a subject works in a round")
      ->check(CLI::PositiveNumber);
  app.add_option("--rounds", arguments.rounds,
                 "How many rounds; twice as many where a disk is "
                 "waited for")
      ->check(CLI::PositiveNumber);
  app.add_option("--store-keys", arguments.store_keys,
                 "Keys in the rows of the store, a multiple of 100")
      ->check(CLI::PositiveNumber);
  app.add_flag("--list", arguments.list, "Name the rows");
  app.add_flag("--codecs", arguments.codecs, "Encoding, decoding and checksums alone");
}

Setting setting_of(const Arguments& arguments) {
  Setting setting = arguments.quick ? Setting::quick(arguments.directory)
                                    : Setting{.directory = arguments.directory};
  if (arguments.seconds > 0) {
    setting.seconds = arguments.seconds;
  }
  if (arguments.rounds > 0) {
    setting.rounds = arguments.rounds;
  }
  if (arguments.store_keys > 0) {
    setting.store_keys = (arguments.store_keys + 99) / 100 * 100;
  }
  return setting;
}

std::vector<RowKind> rows_of(const Arguments& arguments) {
  if (arguments.rows.empty()) {
    return {std::begin(kRows), std::end(kRows)};
  }
  std::vector<RowKind> rows;
  for (const std::string& name : arguments.rows) {
    const auto* const found = std::ranges::find(kRows, name, &RowKind::name);
    if (found == std::end(kRows)) {
      throw CLI::ValidationError("--rows", fmt::format("there is no row {}; see --list", name));
    }
    rows.push_back(*found);
  }
  return rows;
}

/// Each name that is left out has to be some row's.
void check_without(const Arguments& arguments, const std::vector<RowKind>& kinds) {
  std::set<std::string> unknown(arguments.without.begin(), arguments.without.end());
  const Setting setting = setting_of(arguments);
  for (const RowKind& kind : kinds) {
    for (const Subject& subject : kind.make(setting).subjects) {
      unknown.erase(subject.name);
    }
  }
  if (!unknown.empty()) {
    throw CLI::ValidationError("--without",
                               fmt::format("no row has a subject {}", *unknown.begin()));
  }
}

std::string command_of(int argc, char** argv) {
  std::string command = "./dev bench";
  for (int i = 1; i < argc; ++i) {
    command += fmt::format(" {}", argv[i]);
  }
  return command;
}

/// Runs the rows and shows each as soon as it is there. Whether all of it worked.
bool run_rows(const Arguments& arguments, const Heading& heading,
              const std::vector<RowKind>& kinds) {
  const Setting setting = setting_of(arguments);
  std::string markdown = as_markdown(heading);
  fmt::print("{}", markdown);
  std::vector<RowResult> results;
  for (const RowKind& kind : kinds) {
    std::fflush(stdout);
    Row row = kind.make(setting);
    std::erase_if(row.subjects, [&](const Subject& subject) {
      return std::ranges::find(arguments.without, subject.name) != arguments.without.end();
    });
    results.push_back(run(row));
    const std::string table = "\n" + as_markdown(results.back());
    fmt::print("{}", table);
    markdown += table;
    if (!arguments.plots.empty()) {
      write_plots(results.back(), arguments.plots);
    }
  }
  if (!arguments.markdown.empty()) {
    write_text(arguments.markdown, markdown);
  }
  if (!arguments.json.empty()) {
    write_text(arguments.json, as_json(heading, results));
  }
  return std::ranges::none_of(results, &RowResult::failed);
}

int run_bench(int argc, char** argv) {
  CLI::App app("Benchmarks: this log beside its peers and the raw limits.", "nori_bench");
  Arguments arguments;
  add_options(app, arguments);
  try {
    app.parse(argc, argv);
    if (arguments.list) {
      for (const RowKind& kind : kRows) {
        fmt::print("{}\n", kind.name);
      }
      return 0;
    }
    if (arguments.codecs) {
      run_codecs();
      return 0;
    }
    const auto kinds = rows_of(arguments);
    check_without(arguments, kinds);
    std::filesystem::create_directories(arguments.directory);
    const Heading heading{.machine = describe_machine(arguments.directory),
                          .command = command_of(argc, argv)};
    return run_rows(arguments, heading, kinds) ? 0 : 1;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run_bench(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "nori_bench: {}\n", error.what());
    return 1;
  }
}
