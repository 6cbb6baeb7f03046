#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <string>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/open_log.h"
#include "cli/output.h"
#include "cli/record_printer.h"
#include "cli/record_text.h"
#include "cli/report.h"

namespace nori::cli {

namespace {

struct TailOptions {
  std::filesystem::path directory;
  std::uint64_t record_count = 10;
  bool follow = false;
  TextFormat format = TextFormat::jsonl;
};

// At the last `record_count` records.
Result<Reader> read_from_tail(const Wal& wal, std::uint64_t record_count) {
  const WalStats stats = wal.stats();
  const std::uint64_t records_left = stats.next_sequence - stats.first_sequence;
  auto reader = wal.read_from(stats.next_sequence - std::min(record_count, records_left));
  if (!reader && reader.error().code == ErrorCode::gone) {
    return wal.read_from(begin_of_log);  // a writer has deleted it meanwhile
  }
  return reader;
}

int print_tail(Reader& reader, const TailOptions& options, Output& output, RecordPrinter& printer) {
  // How soon it notices that nobody reads what it prints any more.
  constexpr std::chrono::milliseconds kFollowInterval{200};
  for (;;) {
    const auto entry = reader.next();
    if (!entry) {
      output.flush();
      return report(entry.error());
    }
    if (*entry) {
      if (!printer.print(**entry)) {
        return kExitFailed;
      }
      continue;
    }
    if (!output.flush() || !options.follow) {
      return kExitDone;
    }
    for (bool there_is_more = false; !there_is_more;) {
      const auto followed = reader.follow(kFollowInterval);
      if (!followed) {
        return report(followed.error());
      }
      there_is_more = *followed;
      if (output.reader_is_gone()) {
        return kExitBySignal + SIGPIPE;
      }
    }
  }
}

int tail(const TailOptions& options) {
  const auto opened = open_for_reading(options.directory);
  if (!opened) {
    return report(opened.error());
  }
  auto reader = read_from_tail(opened->wal, options.record_count);
  if (!reader) {
    return report(reader.error());
  }
  Output output(STDOUT_FILENO);
  RecordPrinter printer(output, options.format);
  const int exit_code = print_tail(*reader, options, output, printer);
  if (!output.flush()) {
    return report_output_failure(output.failure());
  }
  printer.report_what_is_lost();
  return exit_code;
}

}  // namespace

void add_tail(CLI::App& tool, Command& chosen) {
  CLI::App& command = *tool.add_subcommand(
      "tail", "Print the last records. Changes nothing; works beside a live writer.");
  const auto options = std::make_shared<TailOptions>();
  add_directory(command, options->directory);
  add_parsed_option(
      command, "-n,--records", options->record_count,
      [](std::string_view text) { return parse_count(text, 0); }, "N", "how many (10)");
  command.add_flag("-f,--follow", options->follow, "go on with new ones, until interrupted");
  add_print_format(command, options->format);
  command.footer("Example:\n  nori tail fruit.log -n 1 -f --format tsv");
  on_chosen(command, chosen, options, tail);
}

}  // namespace nori::cli
