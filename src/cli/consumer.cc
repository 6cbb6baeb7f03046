#include "nori/consumer.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/make_error.h"
#include "base/try.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/hold_text.h"
#include "cli/json_text.h"
#include "cli/open_log.h"
#include "cli/output.h"
#include "cli/place.h"
#include "cli/record_printer.h"
#include "cli/report.h"
#include "cursor/cursor_files.h"
#include "nori/wal.h"

namespace nori::cli {

namespace {

/// A place, or one of the two ends.
using Target = std::variant<Begin, End, ReadFrom>;

struct ConsumerArguments {
  std::filesystem::path directory;
  std::string name;
  Target place = begin_of_log;
  std::uint64_t record_count = std::numeric_limits<std::uint64_t>::max();
  bool follow = false;
  bool commit = false;
  bool json = false;
  TextFormat format = TextFormat::jsonl;
};

Parsed<Target> parse_target(std::string_view text) {
  if (text == "begin") {
    return begin_of_log;
  }
  if (text == "end") {
    return end_of_log;
  }
  return parse_place(text);
}

Result<ConsumerStart> start_of(const Wal& wal, const Target& target) {
  if (std::holds_alternative<Begin>(target)) {
    return begin_of_log;
  }
  if (std::holds_alternative<End>(target)) {
    return end_of_log;
  }
  const auto& place = std::get<ReadFrom>(target);
  if (const auto* const sequence = std::get_if<Sequence>(&place); sequence != nullptr) {
    return *sequence;
  }
  if (const auto* const time = std::get_if<TimePoint>(&place); time != nullptr) {
    return *time;
  }
  return NORI_TRY(wal.read_from(place)).position();
}

Result<void> check_is_not_reserved(std::string_view name) {
  if (name.starts_with(kReservedConsumerPrefix)) {
    return make_error(ErrorCode::invalid_argument,
                      "{}: names that begin with {} belong to the library, which alone moves them",
                      name, kReservedConsumerPrefix);
  }
  return {};
}

// Only one that is there.
Result<Consumer> take(Wal& wal, const std::string& name) {
  const auto consumers = NORI_TRY(wal.consumers());
  if (std::ranges::none_of(consumers, [&](const auto& one) { return one.name == name; })) {
    return make_error(ErrorCode::gone,
                      "there is no consumer {}; nori consumer list tells which "
                      "there are, nori consumer read makes one",
                      name);
  }
  return wal.consumer(name);
}

// --- list

std::string line_of(const ConsumerInfo& info, Sequence next_sequence) {
  if (info.unreadable) {
    return fmt::format("{}: cannot be read: {}\n", info.name, info.unreadable->message);
  }
  const auto sequence = info.position.sequence;
  std::string line =
      fmt::format("{}: at seq:{}, {} records behind, moved {}", info.name, sequence,
                  next_sequence - std::min(sequence, next_sequence), time_text(info.committed));
  if (info.max_lag_bytes != 0) {
    line += fmt::format(", dropped where it holds back more than {} bytes", info.max_lag_bytes);
  }
  return line + "\n";
}

Json json_of(const ConsumerInfo& info, Sequence next_sequence) {
  Json json;
  json["name"] = info.name;
  json["sequence"] = info.position.sequence;
  json["lag_records"] = next_sequence - std::min(info.position.sequence, next_sequence);
  json["created_ms"] = time_ms(info.created);
  json["committed_ms"] = time_ms(info.committed);
  json["lag_bytes_max"] = info.max_lag_bytes;
  json["unreadable"] = info.unreadable ? Json(info.unreadable->message) : Json(nullptr);
  return json;
}

int list(const ConsumerArguments& arguments) {
  const auto opened = open_for_reading(arguments.directory);
  if (!opened) {
    return report(opened.error());
  }
  const auto consumers = opened->wal.consumers();
  if (!consumers) {
    return report(consumers.error());
  }
  const auto next_sequence = opened->recovery.next_sequence;
  Json json = Json::array();
  std::string text;
  for (const auto& info : *consumers) {
    json.push_back(json_of(info, next_sequence));
    text += line_of(info, next_sequence);
  }
  return print(arguments.json ? json_text(json) : text, kExitDone);
}

// --- read

// What it returns is the exit code. Commits what was written.
int print_records(Consumer& consumer, const ConsumerArguments& arguments, Output& output,
                  RecordPrinter& printer) {
  // How soon it notices that nobody reads what it prints any more.
  constexpr std::chrono::milliseconds kFollowInterval{200};
  const auto settle = [&] {
    if (!output.flush()) {
      return report_output_failure(output.failure());
    }
    if (arguments.commit) {
      if (const auto committed = consumer.commit(consumer.position()); !committed) {
        return report(committed.error());
      }
    }
    return kExitDone;
  };
  for (std::uint64_t left = arguments.record_count; left > 0;) {
    const auto entry = consumer.next();
    if (!entry) {
      static_cast<void>(settle());
      return report(entry.error());
    }
    if (*entry) {
      --left;
      if (!printer.print(**entry)) {
        return report_output_failure(output.failure());
      }
      continue;
    }
    if (!arguments.follow) {
      break;
    }
    if (const int exit_code = settle(); exit_code != kExitDone) {
      return exit_code;
    }
    for (bool there_is_more = false; !there_is_more;) {
      const auto followed = consumer.follow(kFollowInterval);
      if (!followed) {
        return report(followed.error());
      }
      there_is_more = *followed;
      if (output.reader_is_gone()) {
        return kExitBySignal + SIGPIPE;
      }
    }
  }
  return settle();
}

int read(const ConsumerArguments& arguments) {
  auto opened = open_for_reading(arguments.directory);
  if (!opened) {
    return report(opened.error());
  }
  auto consumer = [&]() -> Result<Consumer> {
    NORI_TRY(check_is_not_reserved(arguments.name));
    return opened->wal.consumer(arguments.name,
                                {.from = NORI_TRY(start_of(opened->wal, arguments.place))});
  }();
  if (!consumer) {
    return report(consumer.error());
  }
  Output output(STDOUT_FILENO);
  RecordPrinter printer(output, arguments.format);
  const int exit_code = print_records(*consumer, arguments, output, printer);
  printer.report_what_is_lost();
  const auto closed = consumer->close();
  return exit_code == kExitDone && !closed ? report(closed.error()) : exit_code;
}

// --- commit, reset, drop

Result<std::string> move(const ConsumerArguments& arguments, bool back_too) {
  NORI_TRY(check_is_not_reserved(arguments.name));
  auto opened = NORI_TRY(open_for_reading(arguments.directory));
  auto consumer = NORI_TRY(take(opened.wal, arguments.name));
  const auto start = NORI_TRY(start_of(opened.wal, arguments.place));
  if (back_too) {
    NORI_TRY(consumer.seek(start));
  } else {
    const auto* const sequence = std::get_if<Sequence>(&start);
    NORI_TRY(consumer.commit(sequence != nullptr ? Position{.sequence = *sequence}
                                                 : std::get<Position>(start)));
  }
  const auto at = consumer.committed().sequence;
  NORI_TRY(consumer.close());
  return fmt::format("{}: at seq:{}\n", arguments.name, at);
}

int finish(const Result<std::string>& done) {
  return done ? print(*done, kExitDone) : report(done.error());
}

int commit(const ConsumerArguments& arguments) { return finish(move(arguments, false)); }
int reset(const ConsumerArguments& arguments) { return finish(move(arguments, true)); }

int drop(const ConsumerArguments& arguments) {
  const auto dropped = [&]() -> Result<std::string> {
    NORI_TRY(check_is_not_reserved(arguments.name));
    auto opened = NORI_TRY(open_for_reading(arguments.directory));
    NORI_TRY(opened.wal.drop_consumer(arguments.name));
    return fmt::format("{}: dropped\n", arguments.name);
  }();
  return finish(dropped);
}

Parsed<Target> parse_exact_target(std::string_view text) { return parse_exact_place(text); }

void add_name(CLI::App& command, std::string& name) {
  command.add_option("NAME", name, "the consumer's name")->required()->type_name("");
}

}  // namespace

void add_consumer(CLI::App& tool, Command& chosen) {
  CLI::App& consumer = *tool.add_subcommand(
      "consumer", "Named places in a log from which reading goes on. Works beside a live writer.");
  consumer.require_subcommand(1);
  consumer.footer("Example:\n  nori consumer list fruit.log");
  const auto begin = [&](const char* name, const char* description, bool is_named,
                         int (*run)(const ConsumerArguments&)) {
    CLI::App& command = *consumer.add_subcommand(name, description);
    auto arguments = std::make_shared<ConsumerArguments>();
    add_directory(command, arguments->directory);
    if (is_named) {
      add_name(command, arguments->name);
    }
    on_chosen(command, chosen, arguments, run);
    return std::pair<CLI::App*, ConsumerArguments*>(&command, arguments.get());
  };

  const auto [list_command, list_arguments] =
      begin("list", "Tell which there are, and how far behind.", false, list);
  list_command->add_flag("--json", list_arguments->json, "print one JSON array");

  const auto [read_command, read_arguments] =
      begin("read", "Print what a consumer has not committed. One that is not there is made.", true,
            read);
  add_parsed_option(*read_command, "--from", read_arguments->place, parse_target,
                    "begin|end|" + std::string(kPlaceSyntax), "where a new one begins (begin)");
  add_parsed_option(
      *read_command, "-n,--records", read_arguments->record_count,
      [](std::string_view text) { return parse_count(text, 1); }, "N", "how many (all)");
  read_command->add_flag("-f,--follow", read_arguments->follow,
                         "go on with new ones, until interrupted");
  read_command->add_flag("--commit", read_arguments->commit, "commit what was printed");
  add_print_format(*read_command, read_arguments->format);
  read_command->footer("Example:\n  nori consumer read fruit.log billing -n 100 --commit");

  const auto [commit_command, commit_arguments] =
      begin("commit", "Everything before a place is done. Never moves back.", true, commit);
  add_parsed_option(*commit_command, "--to", commit_arguments->place, parse_exact_target,
                    "SEG:OFF|seq:N", "everything before it is done")
      ->required();

  const auto [reset_command, reset_arguments] =
      begin("reset", "Move a consumer to a place, back or forward.", true, reset);
  add_parsed_option(*reset_command, "--to", reset_arguments->place, parse_target,
                    "begin|end|" + std::string(kPlaceSyntax), "where it goes on")
      ->required();

  begin("drop", "Forget a consumer: it holds back nothing any more.", true, drop);
}

}  // namespace nori::cli
