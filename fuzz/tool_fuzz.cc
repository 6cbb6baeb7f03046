// What the tool reads: values on the command line, places, Base64, records as text, lines; and the
// lines it acknowledges records with.
//
//   input   1  which of them
//           .. its text

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "cli/acknowledgments.h"
#include "cli/arguments.h"
#include "cli/base64.h"
#include "cli/interruption.h"
#include "cli/line_input.h"
#include "cli/place.h"
#include "cli/record_text.h"
#include "fuzz/input.h"
#include "fuzz/log_check.h"
#include "fuzz/require.h"

namespace nori::fuzz {
namespace {

using namespace nori::cli;

bool equal(const Record& a, const Record& b) {
  return a.op == b.op && a.key == b.key && a.value == b.value && a.expires_at == b.expires_at;
}

// A file in memory that holds `text`, to be read from its beginning. -1 where there is none.
int file_of(std::string_view text) {
  const int descriptor = ::memfd_create("nori", MFD_CLOEXEC);
  require(descriptor >= 0 &&
              ::write(descriptor, text.data(), text.size()) == static_cast<ssize_t>(text.size()),
          "no file in memory");
  ::lseek(descriptor, 0, SEEK_SET);
  return descriptor;
}

// --- arguments

void check_numbers(std::string_view text) {
  if (const auto bytes = parse_bytes(text)) {
    // As whole units it is the same size.
    require(parse_bytes(fmt::to_string(*bytes)) == bytes, "a size is another when written out");
    for (const auto& [unit, factor] : {std::pair{"K", kKiB}, {"MiB", kMiB}, {"G", kGiB}}) {
      const auto number = *bytes / factor;
      require(parse_bytes(fmt::format("{}{}", number, unit)) == number * factor,
              "a unit does not count");
    }
  }
  const auto count = parse_count(text, 1);
  require(!count || (*count >= 1 && parse_count(fmt::to_string(*count), 1) == count),
          "a number is another when written out");
  const auto segment_bytes = parse_segment_bytes(text);
  require(!segment_bytes || (*segment_bytes >= 64 * kKiB && *segment_bytes <= 4 * kGiB),
          "a segment beyond its limits");
  const auto ring_bytes = parse_ring_bytes(text);
  require(!ring_bytes || *ring_bytes == WalOptions::kNoRing ||
              (*ring_bytes >= 64 * kKiB && *ring_bytes <= kGiB),
          "a ring beyond its limits");
  const auto policy = parse_fsync_policy(text);
  require(!policy || (policy->window().count() >= 0 && policy->window().count() <= 60'000),
          "a window beyond its limits");
}

// A command line is taken, or refused as a command line is.
void check_command_line(std::string_view text) {
  CLI::App app;
  std::uint64_t bytes = 0;
  FsyncPolicy policy = FsyncPolicy::os();
  ReadFrom from = begin_of_log;
  std::filesystem::path directory;
  add_directory(app, directory);
  add_parsed_option(app, "--bytes", bytes, parse_bytes, "BYTES", "a size");
  add_parsed_option(app, "--fsync", policy, parse_fsync_policy, "POLICY", "a policy");
  add_parsed_option(app, "--from,-f", from, parse_place, "PLACE", "a place");
  std::vector<std::string> words;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    words.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  std::ranges::reverse(words);  // as CLI11 takes them
  try {
    app.parse(words);
    require(app.count("DIR") == 1, "a command line without a directory");
  } catch (const CLI::Error&) {
    // Refused, or asked for help.
  }
}

// --- places

void check_place(std::string_view text) {
  const auto place = parse_place(text);
  const auto exact = parse_exact_place(text);
  require(!exact || (place && place->index() == exact->index()), "a place that is none");
  require(place || !place.error().empty(), "refused without words");
  const auto bare = parse_time(text);
  const auto same = parse_place(fmt::format("time:{}", text));
  require(bare.has_value() == same.has_value() && (!bare || std::get<TimePoint>(*same) == *bare),
          "a time that depends on what stands before it");
  if (!place) {
    return;
  }
  if (const auto* const sequence = std::get_if<Sequence>(&*place)) {
    const auto again = parse_place(fmt::format("seq:{}", *sequence));
    require(again && std::get<Sequence>(*again) == *sequence, "a sequence is another");
  } else if (const auto* const frame = std::get_if<FramePlace>(&*place)) {
    const auto again = parse_place(fmt::format("{}:{}", frame->segment_id, frame->offset));
    require(again && std::get<FramePlace>(*again).segment_id == frame->segment_id &&
                std::get<FramePlace>(*again).offset == frame->offset,
            "a frame's place is another");
  } else {
    using namespace std::chrono;
    const auto time = std::get<TimePoint>(*place);
    const auto day = floor<days>(time);
    const year_month_day date{day};
    const hh_mm_ss clock{floor<nanoseconds>(time - day)};
    // An offset from UTC may lead out of the years that can be written.
    if (const int year = static_cast<int>(date.year()); year < 1970 || year > 2261) {
      return;
    }
    const auto again = parse_place(
        fmt::format("time:{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
                    static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                    static_cast<unsigned>(date.day()), clock.hours().count(),
                    clock.minutes().count(), clock.seconds().count(), clock.subseconds().count()));
    require(again && std::get<TimePoint>(*again) == time, "a time is another when written out");
  }
}

// --- Base64

void check_base64(std::string_view text) {
  std::string bytes;
  if (decode_base64(text, bytes)) {
    std::string again;
    append_base64(bytes, again);
    require(again == text, "two texts for the same bytes");
  }
  std::string encoded;
  append_base64(text, encoded);
  require(encoded.size() == (text.size() + 2) / 3 * 4, "a text of another length");
  require(decode_base64(encoded, bytes) && bytes == text, "encoded, it decodes to another");
}

// --- records as text

// Whether the JSON library, by itself, takes the line for one object.
bool is_json_object(std::string_view line) {
  const auto json = nlohmann::json::parse(line, nullptr, false);
  return json.is_object();
}

void check_line(TextFormat format, std::string_view line) {
  RecordParser parser(format);
  const auto record = parser.parse(line);
  if (!record) {
    require(!record.error().empty(), "refused without words");
    return;
  }
  require(format != TextFormat::jsonl || is_json_object(line), "a record that is no JSON");
  if (!*record) {
    require(format == TextFormat::jsonl, "only jsonl has gaps");
    return;
  }
  if (format == TextFormat::lines) {
    require((*record)->value == line && (*record)->key.empty(), "a line is its value");
    return;
  }
  // Printed, it is the same record.
  Entry entry;
  entry.op = (*record)->op;
  entry.key = (*record)->key;
  entry.value = (*record)->value;
  entry.expires_at = (*record)->expires_at;
  std::string printed;
  format == TextFormat::tsv ? print_tsv(entry, printed) : print_jsonl(entry, printed);
  require(printed.ends_with('\n') && std::ranges::count(printed, '\n') == 1, "not one line");
  printed.pop_back();
  RecordParser other(format);
  const auto again = other.parse(printed);
  require(again && *again && equal(**again, **record), "printed, it is another record");
}

// What a store has of a key comes back from each of the ways to print it.
void check_store_printing(const StoreEntry& entry) {
  std::string tsv;
  print_tsv(entry, tsv);
  std::string jsonl;
  print_jsonl(entry, jsonl);
  std::string with_version;
  print_jsonl_with_version(entry, with_version);
  for (auto* const printed : {&tsv, &jsonl, &with_version}) {
    require(std::ranges::count(*printed, '\n') == 1 && printed->ends_with('\n'), "not one line");
    printed->pop_back();
    RecordParser parser(printed == &tsv ? TextFormat::tsv : TextFormat::jsonl);
    const auto record = parser.parse(*printed);
    require(record && *record &&
                equal(**record, {.op = Operation::put,
                                 .key = entry.key,
                                 .value = entry.value,
                                 .expires_at = printed == &tsv ? std::nullopt : entry.expires_at}),
            "what a store has is not read as it was printed");
  }
  std::string key;
  print_key(entry.key, key);
  RecordParser parser(TextFormat::tsv);
  const auto removal = parser.parse(key);
  require(removal && *removal && equal(**removal, Record::remove(entry.key)),
          "a key that is another when printed alone");
}

// Any key and value come back from what dump prints.
void check_printing(std::string_view text) {
  const auto middle = text.size() / 2;
  Entry entry;
  entry.key = text.substr(0, middle);
  entry.value = text.substr(middle);
  for (const auto format : {TextFormat::tsv, TextFormat::jsonl}) {
    std::string printed;
    format == TextFormat::tsv ? print_tsv(entry, printed) : print_jsonl(entry, printed);
    printed.pop_back();
    RecordParser parser(format);
    const auto record = parser.parse(printed);
    require(record && *record && (*record)->key == entry.key && (*record)->value == entry.value,
            "what was printed is not read");
  }
  check_store_printing({.key = entry.key,
                        .value = entry.value,
                        .version = {.epoch = {text.size()}, .sequence = middle},
                        .expires_at = TimePoint(std::chrono::milliseconds(text.size()))});
  std::string gap;
  print_gap({.from_sequence = 1, .to_sequence = text.size(), .reason = std::string(text)}, gap);
  gap.pop_back();
  RecordParser parser(TextFormat::jsonl);
  const auto nothing = parser.parse(gap);
  require(nothing && !*nothing, "a gap that is not read as one");
}

// As the JSON library judges by itself.
void check_utf8(std::string_view text) {
  bool is_valid = true;
  try {
    static_cast<void>(nlohmann::json(std::string(text)).dump());
  } catch (const nlohmann::json::type_error&) {
    is_valid = false;
  }
  require(is_utf8(text) == is_valid, "UTF-8 for one, not for the other");
}

// --- lines

void check_lines(std::string_view text) {
  const int descriptor = file_of(text);
  std::string_view due = text;
  const auto require_next = [&](std::string_view line) {
    const auto end = std::min(due.find('\n'), due.size());
    require(!due.empty() && line == due.substr(0, end), "another line");
    due.remove_prefix(std::min(end + 1, due.size()));
  };
  {
    LineInput input(descriptor, "memory");
    const Interruption interruption;
    for (;;) {
      const auto status = input.read_more(interruption);
      require(status.has_value(), "reading from memory fails");
      if (*status != LineInput::Status::more) {
        break;
      }
      while (const auto line = input.next_line()) {
        require_next(*line);
      }
    }
    if (const auto line = input.last_line()) {
      require_next(*line);
    }
  }
  ::close(descriptor);
  require(due.empty(), "lines are missing");
}

// Longer than a piece, so that the buffer moves and grows: the text again and again.
void check_long_lines(Input input) {
  const auto pieces = 1 + input.take<std::uint8_t>() % 4;
  const auto part = as_text(input.rest());
  std::string text;
  while (!part.empty() && text.size() < static_cast<std::size_t>(pieces) * 200 * kKiB) {
    text += part;
  }
  check_lines(text);
}

// --- acknowledgments

// Standard output goes to memory while one lives.
class CapturedOutput {
 public:
  CapturedOutput() : before_(::dup(STDOUT_FILENO)), file_(file_of("")) {
    require(::dup2(file_, STDOUT_FILENO) == STDOUT_FILENO, "standard output does not move");
  }
  CapturedOutput(const CapturedOutput&) = delete;
  CapturedOutput& operator=(const CapturedOutput&) = delete;
  ~CapturedOutput() {
    ::dup2(before_, STDOUT_FILENO);
    ::close(before_);
    ::close(file_);
  }

  [[nodiscard]] std::string text() const {
    std::string text(static_cast<std::size_t>(::lseek(file_, 0, SEEK_END)), '\0');
    require(::pread(file_, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()),
            "memory that is not read");
    return text;
  }

 private:
  int before_;
  int file_;
};

// A byte each: an append of so many records, a sync, or a look at what was said so far.
void check_acknowledgments(Input input) {
  const auto mode = input.take<std::uint8_t>();
  const auto level = static_cast<AckLevel>(mode % 3);
  const auto policy = (mode & 0x80) != 0 ? FsyncPolicy::always() : FsyncPolicy::os();
  testing::SimulatedDisk disk(1);
  auto options = small_options(disk, OpenMode::create);
  options.fsync = policy;
  auto opened = Wal::open(options);
  require(opened.has_value(), "no log");
  std::string due;
  std::string said;
  {
    const CapturedOutput output;
    Acknowledgments acknowledgments(opened->wal, level, policy.kind());
    for (int i = 0; i < 16 && !input.empty(); ++i) {
      const auto step = input.take<std::uint8_t>();
      if (step % 4 == 0) {
        require(opened->wal.sync().has_value(), "a sync that fails");
        continue;
      }
      Batch batch;
      for (int record = 0; record < step / 4 + 1; ++record) {
        batch.put("k", "v");
      }
      const auto appended = opened->wal.append(batch);
      require(appended.has_value(), "an append that fails");
      acknowledgments.appended(appended->sequence, appended->position, batch.record_count());
      for (auto sequence = appended->sequence; sequence < appended->end.sequence; ++sequence) {
        due += fmt::format("{}\t{}:{}\n", sequence, appended->position.segment_id,
                           appended->position.offset);
      }
      const bool at_once =
          level == AckLevel::appended ||
          (level == AckLevel::durable && policy.kind() == FsyncPolicy::Kind::always);
      require(!at_once || output.text() == due, "an acknowledgment that is late");
    }
    require(acknowledgments.close_log().has_value(), "a close that fails");
    require(acknowledgments.failure() == 0, "writing to memory has failed");
    said = output.text();
  }
  require(said == (level == AckLevel::none ? "" : due), "other acknowledgments than records");
}

void check(Input input) {
  const auto which = input.take<std::uint8_t>() % 12;
  if (which == 10) {
    return check_long_lines(input);
  }
  if (which == 11) {
    return check_acknowledgments(input);
  }
  const auto text = as_text(input.rest());
  switch (which) {
    case 0:
      return check_numbers(text);
    case 1:
      return check_command_line(text);
    case 2:
      return check_place(text);
    case 3:
      return check_base64(text);
    case 4:
      return check_line(TextFormat::tsv, text);
    case 5:
      return check_line(TextFormat::jsonl, text);
    case 6:
      return check_line(TextFormat::lines, text);
    case 7:
      return check_printing(text);
    case 8:
      return check_utf8(text);
    default:
      return check_lines(text);
  }
}

}  // namespace
}  // namespace nori::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nori::fuzz::check(nori::fuzz::Input(data, size));
  return 0;
}
