#include <unistd.h>

#include <optional>
#include <string>
#include <utility>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/open_log.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/record_printer.h"
#include "cli/record_text.h"
#include "cli/report.h"

namespace nori::cli {

namespace {

struct DumpOptions {
  std::filesystem::path directory;
  ReadFrom from;
  std::optional<std::uint64_t> record_limit;
  TextFormat format = TextFormat::jsonl;
  ReadOptions read;
};

// Prints what the reader yields; the exit code.
int dump_records(Reader& reader, const DumpOptions& options, Output& output,
                 RecordPrinter& printer) {
  int exit_code = kExitDone;
  std::optional<Gap> gap;
  for (std::uint64_t printed = 0; printed != options.record_limit;) {
    const auto entry = reader.next();
    if (!entry) {
      output.flush();  // before what went wrong behind it
      exit_code = report(entry.error());
      if (entry.error().code != ErrorCode::damaged || !options.read.skip_damaged) {
        break;
      }
      if (gap) {
        gap->reason += "; " + entry.error().message;
      } else {
        gap = Gap{.from_sequence = reader.position().sequence,
                  .to_sequence = std::nullopt,
                  .reason = entry.error().message};
      }
      continue;
    }
    if (!*entry) {
      break;
    }
    if (gap) {
      gap->to_sequence = (*entry)->sequence;
      printer.print(*std::exchange(gap, std::nullopt));
    }
    if (!printer.print(**entry)) {
      break;
    }
    ++printed;
  }
  if (gap) {
    printer.print(*gap);
  }
  return exit_code;
}

int dump(const DumpOptions& options) {
  const auto opened = open_for_reading(options.directory);
  if (!opened) {
    return report(opened.error());
  }
  auto reader = opened->wal.read_from(options.from, options.read);
  if (!reader) {
    return report(reader.error());
  }
  Output output(STDOUT_FILENO);
  RecordPrinter printer(output, options.format);
  const int exit_code = dump_records(*reader, options, output, printer);
  if (!output.flush()) {
    return report_output_failure(output.failure());
  }
  printer.report_what_is_lost();
  return exit_code;
}

}  // namespace

void add_dump(CLI::App& tool, Command& chosen) {
  CLI::App& command = *tool.add_subcommand(
      "dump", "Print records, oldest first. Changes nothing; works beside a live writer.");
  const auto options = std::make_shared<DumpOptions>();
  add_directory(command, options->directory);
  add_parsed_option(command, "--from", options->from, parse_place, std::string(kPlaceSyntax),
                    "where to begin: a frame's place, a sequence, a time in UTC");
  add_parsed_option(
      command, "--limit", options->record_limit,
      [](std::string_view text) -> Parsed<std::optional<std::uint64_t>> {
        return parse_count(text, 0);
      },
      "N", "stop after N records");
  add_print_format(command, options->format);
  command.add_flag_callback(
      "--durable", [&read = options->read] { read.visible = Visible::durable; },
      "only what survives a power cut");
  command.add_flag("--skip-damaged", options->read.skip_damaged,
                   "go on behind damage, and mark what is missing");
  command.footer(
      "Examples:\n  nori dump fruit.log --from time:2026-01-31 --limit 10\n"
      "  nori dump fruit.log --format tsv | nori append copy.log");
  on_chosen(command, chosen, options, dump);
}

}  // namespace nori::cli
