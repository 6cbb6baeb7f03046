#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <optional>
#include <string>
#include <utility>

#include "cli/acknowledgments.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/interruption.h"
#include "cli/line_input.h"
#include "cli/record_text.h"
#include "cli/recovery_report.h"
#include "cli/report.h"

namespace nori::cli {

namespace {

struct AppendOptions {
  WalOptions wal;
  TextFormat format = TextFormat::tsv;
  std::optional<std::uint64_t> lines_per_batch;
  AckLevel ack = AckLevel::none;
};

// Takes lines into the log, until something is wrong.
class Appender {
 public:
  Appender(Wal& wal, Acknowledgments& acknowledgments, const AppendOptions& options)
      : wal_(wal),
        acknowledgments_(acknowledgments),
        parser_(options.format),
        lines_per_batch_(options.lines_per_batch) {}

  // Each of these returns whether to go on; if not, it has said why, and exit_code() is set.
  bool take(std::string_view line);
  bool append_batch();

  [[nodiscard]] int exit_code() const { return exit_code_; }

 private:
  template <typename RecordOrBatch>
  bool append(const RecordOrBatch& what, std::uint64_t record_count);
  bool stop(int exit_code) {
    exit_code_ = exit_code;
    return false;
  }

  Wal& wal_;
  Acknowledgments& acknowledgments_;
  RecordParser parser_;
  const std::optional<std::uint64_t> lines_per_batch_;
  Batch batch_;
  std::uint64_t line_number_ = 0;
  std::uint64_t batch_line_number_ = 0;  // of its first line
  int exit_code_ = kExitDone;
};

bool Appender::take(std::string_view line) {
  ++line_number_;
  const auto record = parser_.parse(line);
  if (!record) {
    complain(fmt::format(
        "standard input, line {}: {}{}", line_number_, record.error(),
        batch_.empty()
            ? ""
            : fmt::format("; its batch, from line {} on, was not appended", batch_line_number_)));
    return stop(kExitFailed);
  }
  if (!*record) {
    return true;
  }
  if (!lines_per_batch_) {
    return append(**record, 1);
  }
  if (batch_.empty()) {
    batch_line_number_ = line_number_;
  }
  batch_.add(**record);
  return batch_.record_count() < *lines_per_batch_ || append_batch();
}

bool Appender::append_batch() {
  if (batch_.empty()) {
    return true;
  }
  const bool goes_on = append(batch_, batch_.record_count());
  batch_.clear();
  return goes_on;
}

template <typename RecordOrBatch>
bool Appender::append(const RecordOrBatch& what, std::uint64_t record_count) {
  const auto appended = wal_.append(what);
  if (!appended) {
    const Error& error = appended.error();
    if (error.position) {
      // It could not be made durable, but appended it is.
      acknowledgments_.appended(error.position->sequence, *error.position, record_count);
    }
    return stop(report(error));
  }
  acknowledgments_.appended(appended->sequence, appended->position, record_count);
  if (acknowledgments_.failure() != 0) {
    return stop(Interruption::signal() != 0 ? kExitBySignal + Interruption::signal()
                                            : report_output_failure(acknowledgments_.failure()));
  }
  return true;
}

// Reads lines and appends them until the input ends or something is wrong. Returns the exit code.
int append_input(Wal& wal, Acknowledgments& acknowledgments, const AppendOptions& options,
                 const Interruption& interruption) {
  LineInput input(STDIN_FILENO, "standard input");
  Appender appender(wal, acknowledgments, options);
  const auto end =
      take_lines(input, interruption, [&](std::string_view line) { return appender.take(line); });
  if (!end) {
    return report(end.error());
  }
  if (*end != LinesEnd::end) {
    return *end == LinesEnd::stopped ? appender.exit_code()
                                     : kExitBySignal + Interruption::signal();
  }
  appender.append_batch();
  return appender.exit_code();
}

int append(const AppendOptions& options) {
  const Interruption interruption;
  auto opened = [&options] {
    const SignalsBlocked blocked;  // for the log's own threads
    return Wal::open(options.wal);
  }();
  if (!opened) {
    return report(opened.error());
  }
  report_recovery(options.wal.directory, opened->recovery);

  Wal& wal = opened->wal;
  Acknowledgments acknowledgments(wal, options.ack, options.wal.fsync.kind());
  int exit_code = append_input(wal, acknowledgments, options, interruption);
  if (const auto closed = acknowledgments.close_log(); !closed) {
    return report(closed.error());
  }
  if (exit_code == kExitDone && acknowledgments.failure() != 0) {
    exit_code = report_output_failure(acknowledgments.failure());
  }
  return exit_code;
}

}  // namespace

void add_append(CLI::App& tool, Command& chosen) {
  CLI::App& command = *tool.add_subcommand(
      "append", "Append records from standard input, and make the log if it is not there yet.");
  const auto options = std::make_shared<AppendOptions>();
  add_directory(command, options->wal.directory);
  add_parsed_option(command, "--fsync", options->wal.fsync, parse_fsync_policy,
                    "always|os|batch[=MS]",
                    "when a record becomes durable: with its append;\n"
                    "when the log has to; MS milliseconds later at most (batch=5)");
  add_parsed_option(
      command, "--format", options->format,
      [](std::string_view text) {
        return parse_choice<TextFormat>(
            text,
            {{"tsv", TextFormat::tsv}, {"jsonl", TextFormat::jsonl}, {"lines", TextFormat::lines}});
      },
      "tsv|jsonl|lines", "what a line says (tsv)");
  add_parsed_option(
      command, "--batch", options->lines_per_batch,
      [](std::string_view text) -> Parsed<std::optional<std::uint64_t>> {
        return parse_count(text, 1);
      },
      "N", "N lines are one atomic batch: after a crash all are there,\nor none");
  add_parsed_option(
      command, "--ack", options->ack,
      [](std::string_view text) {
        return parse_choice<AckLevel>(
            text, {{"appended", AckLevel::appended}, {"durable", AckLevel::durable}});
      },
      "appended|durable",
      "print SEQUENCE<TAB>SEGMENT:OFFSET for each record once it\n"
      "survives this process dying, or the power failing");
  add_parsed_option(command, "--segment-bytes", options->wal.segment_bytes, parse_segment_bytes,
                    "N", "the size of a segment, 64K to 4G (128M)");
  add_parsed_option(command, "--ring-bytes", options->wal.ring_bytes, parse_ring_bytes, "N|none",
                    "the size of the ring, 64K to 1G (16M)");
  add_parsed_option(
      command, "--io", options->wal.io,
      [](std::string_view text) {
        return parse_choice<IoMode>(text, {{"automatic", IoMode::automatic},
                                           {"direct", IoMode::direct},
                                           {"buffered", IoMode::buffered}});
      },
      "automatic|direct|buffered", "how segments are written (automatic)");
  command.footer(
      "A line of tsv is KEY<TAB>VALUE, or KEY alone for a deletion; \\t \\n \\r \\\\ are escapes.\n"
      "\nExample:\n  printf 'apple\\tred\\npear\\tgreen\\napple\\n' | nori append fruit.log "
      "--ack durable");
  on_chosen(command, chosen, options, append);
}

}  // namespace nori::cli
