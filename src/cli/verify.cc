#include "nori/verify.h"

#include <fmt/format.h>

#include <iterator>
#include <string>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/json_text.h"
#include "cli/report.h"

namespace nori::cli {

namespace {

struct VerifyOptions {
  std::filesystem::path directory;
  bool json = false;
};

std::string to_json(const VerifyReport& found) {
  Json json;
  json["segments"] = Json::array();
  for (const SegmentReport& segment : found.segments) {
    json["segments"].push_back({{"segment", segment.segment_id},
                                {"file", segment.file},
                                {"bytes", segment.bytes},
                                {"records", segment.records},
                                {"frames", segment.frames},
                                {"bytes_padding", segment.bytes_padding},
                                {"first_sequence", segment.first_sequence},
                                {"end_sequence", segment.end_sequence},
                                {"sealed", segment.sealed}});
  }
  json["records"] = found.records;
  json["bytes"] = found.bytes;
  json["records_in_ring"] = found.records_in_ring;
  json["ring_note"] = found.ring_note;
  json["first_sequence"] = found.first_sequence;
  json["next_sequence"] = found.next_sequence;
  json["durable_mark"] = found.durable_mark;
  json["bytes_torn"] = found.bytes_torn;
  json["damages"] = Json::array();
  for (const Damage& damage : found.damages) {
    json["damages"].push_back({{"segment", damage.segment_id},
                               {"offset", damage.offset},
                               {"length", damage.bytes},
                               {"reason", damage.reason}});
  }
  json["foreign_files"] = found.foreign_files;
  return json_text(json);
}

std::string to_text(const VerifyReport& found) {
  std::string text;
  const auto add = [&text]<typename... Args>(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text), format, std::forward<Args>(args)...);
  };
  add("{:<12} {:>12} {:>12} {:>12} {:>12}  {}\n", "segment", "bytes", "padding", "frames",
      "records", "sequences");
  for (const SegmentReport& segment : found.segments) {
    add("{:<12} {:>12} {:>12} {:>12} {:>12}  {}..{}{}\n", segment.file, segment.bytes,
        segment.bytes_padding, segment.frames, segment.records, segment.first_sequence,
        segment.end_sequence, segment.sealed ? " sealed" : "");
  }
  for (const Damage& damage : found.damages) {
    add("damage: segment {} offset {} length {}: {}\n", damage.segment_id, damage.offset,
        damage.bytes, damage.reason);
  }
  for (const std::string& file : found.foreign_files) {
    add("foreign file, left alone: {}\n", file);
  }
  if (!found.ring_note.empty()) {
    add("ring: {}\n", found.ring_note);
  }
  if (found.bytes_torn > 0) {
    add("torn tail, no damage: {} bytes\n", found.bytes_torn);
  }
  add("{} records, {} of them in the ring, durable up to {}: {}\n", found.records,
      found.records_in_ring, found.durable_mark,
      found.damages.empty() ? "no damage" : fmt::format("{} damages", found.damages.size()));
  return text;
}

int verify_log(const VerifyOptions& options) {
  const auto found = verify(options.directory);
  if (!found) {
    return report(found.error());
  }
  return print(options.json ? to_json(*found) : to_text(*found),
               found->damages.empty() ? kExitDone : kExitNotThere);
}

}  // namespace

void add_verify(CLI::App& tool, Command& chosen) {
  CLI::App& command = *tool.add_subcommand(
      "verify", "Read and check every byte. Changes nothing; works beside a live writer.");
  const auto options = std::make_shared<VerifyOptions>();
  add_directory(command, options->directory);
  command.add_flag("--json", options->json, "print one JSON object");
  command.footer("Example:\n  nori verify fruit.log || echo damaged");
  on_chosen(command, chosen, options, verify_log);
}

}  // namespace nori::cli
