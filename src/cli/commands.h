// The tool's subcommands: each adds itself to the command line.

#pragma once

#include "cli/arguments.h"

namespace nori::cli {

void add_append(CLI::App& tool, Command& chosen);
void add_dump(CLI::App& tool, Command& chosen);
void add_tail(CLI::App& tool, Command& chosen);
void add_stat(CLI::App& tool, Command& chosen);
void add_verify(CLI::App& tool, Command& chosen);
void add_gc(CLI::App& tool, Command& chosen);
void add_compact(CLI::App& tool, Command& chosen);
void add_snapshot(CLI::App& tool, Command& chosen);
void add_consumer(CLI::App& tool, Command& chosen);
void add_kv(CLI::App& tool, Command& chosen);

}  // namespace nori::cli
