#include "cli/record_printer.h"

#include <fmt/format.h>

#include "cli/report.h"

namespace nori::cli {

bool RecordPrinter::print(const Entry& entry) {
  if (format_ == TextFormat::jsonl) {
    print_jsonl(entry, output_.text());
  } else {
    print_tsv(entry, output_.text());
    expiries_lost_ += entry.expires_at.has_value() ? 1U : 0U;
  }
  return output_.write_if_full();
}

void RecordPrinter::print(const Gap& gap) {
  if (format_ == TextFormat::jsonl) {
    print_gap(gap, output_.text());
  } else if (gap.to_sequence) {
    complain(fmt::format("records {} to {} cannot be read; see nori verify", gap.from_sequence,
                         *gap.to_sequence - 1));
  } else {
    complain(fmt::format("records from {} on cannot be read; see nori verify", gap.from_sequence));
  }
}

void RecordPrinter::report_what_is_lost() const { report_expiries_lost(expiries_lost_); }

void report_expiries_lost(std::uint64_t count) {
  if (count > 0) {
    complain(fmt::format("tsv cannot say when a record expires: {} of these do; use --format jsonl",
                         count));
  }
}

void add_print_format(CLI::App& command, TextFormat& format) {
  add_parsed_option(
      command, "--format", format,
      [](std::string_view text) {
        return parse_choice<TextFormat>(text,
                                        {{"jsonl", TextFormat::jsonl}, {"tsv", TextFormat::tsv}});
      },
      "jsonl|tsv", "how records are printed (jsonl)");
}

}  // namespace nori::cli
