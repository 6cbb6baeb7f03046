// Records on standard output.

#pragma once

#include <cstdint>
#include <string>

#include "cli/arguments.h"
#include "cli/output.h"
#include "cli/record_text.h"
#include "nori/wal.h"

namespace nori::cli {

/// Prints what a reader yields, as tsv or jsonl.
class RecordPrinter {
 public:
  RecordPrinter(Output& output, TextFormat format) : output_(output), format_(format) {}

  /// False once writing has failed.
  bool print(const Entry& entry);

  /// Marks records that cannot be read: in jsonl among the records, in tsv on standard error.
  void print(const Gap& gap);

  /// Call at the end: says on standard error what the format could not.
  void report_what_is_lost() const;

 private:
  Output& output_;
  TextFormat format_;
  std::uint64_t expiries_lost_ = 0;
};

/// Says on standard error, if it is so, that `count` records were printed as tsv and expire.
void report_expiries_lost(std::uint64_t count);

/// `jsonl` or `tsv`, for an option of that name.
void add_print_format(CLI::App& command, TextFormat& format);

}  // namespace nori::cli
