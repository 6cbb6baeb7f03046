#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/make_error.h"
#include "base/try.h"
#include "cli/interruption.h"
#include "cli/kv.h"
#include "cli/line_input.h"
#include "cli/progress_bar.h"
#include "cli/record_text.h"
#include "cli/recovery_report.h"
#include "cli/report.h"
#include "store/store_appender.h"

namespace nori::cli {

namespace {

constexpr std::string_view kStandardInput = "-";

struct LoadOptions {
  std::filesystem::path directory;
  std::string file{kStandardInput};
  std::optional<TextFormat> format;
  std::optional<std::uint64_t> lines_per_batch;
};

// What is loaded: standard input, or a file.
class Source {
 public:
  // Errors: `io`.
  static Result<Source> open(const std::string& file) {
    if (file == kStandardInput) {
      return Source(STDIN_FILENO, "standard input");
    }
    const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
      return make_error(ErrorCode::io,
                        "{}: {}; name a file of tsv or jsonl, or - for standard input", file,
                        errno_text(errno));
    }
    return Source(descriptor, file);
  }
  Source(Source&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)), name_(std::move(other.name_)) {}
  Source& operator=(Source&&) = delete;
  ~Source() {
    if (descriptor_ > STDIN_FILENO) {
      ::close(descriptor_);
    }
  }

  [[nodiscard]] int descriptor() const { return descriptor_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  // Of a file; nothing where it cannot be known.
  [[nodiscard]] std::optional<std::uint64_t> bytes() const {
    struct stat status = {};
    if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
      return std::nullopt;
    }
    return static_cast<std::uint64_t>(status.st_size);
  }

 private:
  Source(int descriptor, std::string name) : descriptor_(descriptor), name_(std::move(name)) {}

  int descriptor_;
  std::string name_;
};

TextFormat format_of(const LoadOptions& options) {
  return options.format                   ? *options.format
         : options.file.ends_with(".tsv") ? TextFormat::tsv
                                          : TextFormat::jsonl;
}

// Takes lines into the store, until something is wrong.
class Loader {
 public:
  Loader(Wal& log, const Source& source, const LoadOptions& options)
      : log_(log),
        name_(source.name()),
        format_(format_of(options)),
        parser_(format_),
        lines_per_batch_(options.lines_per_batch),
        progress_(STDERR_FILENO, source.bytes()) {}

  // Each of these returns whether to go on; if not, it has said why, and exit_code() is set.
  bool take(std::string_view line);
  bool append_batch();

  // The lines are over before they were expected to be: what of them goes into the store.
  bool cut_short() { return is_atomic() || append_batch(); }

  [[nodiscard]] int exit_code() const { return exit_code_; }
  [[nodiscard]] std::uint64_t put() const { return put_; }
  [[nodiscard]] std::uint64_t deleted() const { return deleted_; }
  void clear_progress() { progress_.clear(); }

 private:
  // What is appended at once where nobody asked for so many lines.
  static constexpr std::uint64_t kLinesPerAppend = 1000;
  static constexpr std::uint64_t kBytesPerAppend = kMiB;

  [[nodiscard]] bool is_atomic() const { return lines_per_batch_.has_value(); }
  bool stop(std::string_view why, int exit_code);

  Wal& log_;
  const std::string& name_;
  const TextFormat format_;
  RecordParser parser_;
  const std::optional<std::uint64_t> lines_per_batch_;
  ProgressBar progress_;
  Batch batch_;
  std::uint64_t batch_deletions_ = 0;
  std::uint64_t batch_end_line_ = 0;
  std::uint64_t line_number_ = 0;
  std::uint64_t lines_loaded_ = 0;
  std::uint64_t bytes_read_ = 0;
  std::uint64_t put_ = 0;
  std::uint64_t deleted_ = 0;
  int exit_code_ = kExitDone;
};

bool Loader::take(std::string_view line) {
  ++line_number_;
  bytes_read_ += line.size() + 1;
  const auto parsed = parser_.parse(line);
  if (!parsed) {
    const bool looks_like_tsv = format_ == TextFormat::jsonl && !line.starts_with('{');
    return cut_short() &&
           stop(fmt::format("{}, line {}: {}{}", name_, line_number_, parsed.error(),
                            looks_like_tsv ? "; of KEY<TAB>VALUE say --format tsv" : ""),
                kExitFailed);
  }
  if (!*parsed) {
    return true;
  }
  const auto& record = **parsed;
  if (!is_atomic() &&
      batch_.encoded().size() + record.key.size() + record.value.size() > kBytesPerAppend &&
      !append_batch()) {
    return false;
  }
  batch_.add(record);
  batch_deletions_ += record.op == Operation::remove ? 1U : 0U;
  batch_end_line_ = line_number_;
  return batch_.record_count() < lines_per_batch_.value_or(kLinesPerAppend) || append_batch();
}

bool Loader::append_batch() {
  if (batch_.empty()) {
    return true;
  }
  if (const auto appended = log_.append(batch_); !appended) {
    return stop(appended.error().message, exit_code_of(appended.error().code));
  }
  put_ += batch_.record_count() - batch_deletions_;
  deleted_ += std::exchange(batch_deletions_, 0);
  batch_.clear();
  lines_loaded_ = batch_end_line_;
  progress_.show(bytes_read_, lines_loaded_);
  return true;
}

bool Loader::stop(std::string_view why, int exit_code) {
  clear_progress();
  complain(fmt::format("{}; {}", why,
                       lines_loaded_ == 0 ? std::string("nothing was loaded")
                       : lines_loaded_ == 1
                           ? std::string("line 1 is loaded")
                           : fmt::format("lines 1 to {} are loaded", lines_loaded_)));
  exit_code_ = exit_code;
  return false;
}

// Loads until the input ends or something is wrong. Returns the exit code.
int load_lines(Loader& loader, const Source& source, const Interruption& interruption) {
  LineInput input(source.descriptor(), source.name());
  const auto end =
      take_lines(input, interruption, [&](std::string_view line) { return loader.take(line); });
  loader.clear_progress();
  if (end && *end == LinesEnd::end) {
    loader.append_batch();
    return loader.exit_code();
  }
  if (end && *end == LinesEnd::stopped) {
    return loader.exit_code();
  }
  if (!loader.cut_short()) {
    return loader.exit_code();
  }
  return end ? kExitBySignal + Interruption::signal() : report(end.error());
}

Result<StoreAppender> open_store(const LoadOptions& options) {
  const SignalsBlocked blocked;  // for the log's own threads
  WalOptions log;
  log.directory = options.directory;
  log.fsync = FsyncPolicy::os();  // closing makes all of it durable
  return StoreAppender::open(log);
}

int load(const LoadOptions& options) {
  const auto source = Source::open(options.file);
  if (!source) {
    return report(source.error());
  }
  const Interruption interruption;
  auto store = open_store(options);
  if (!store) {
    return report(store.error());
  }
  report_recovery(options.directory, store->recovery());
  const auto began = std::chrono::steady_clock::now();
  Loader loader(store->log(), *source, options);
  const int exit_code = load_lines(loader, *source, interruption);
  if (const auto closed = store->close(); !closed) {
    return report(closed.error());
  }
  if (exit_code != kExitDone) {
    return exit_code;
  }
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - began;
  return print(
      fmt::format("{} put, {} deleted, in {:.3f} s: {} a second\n", loader.put(), loader.deleted(),
                  taken.count(), rate_of(loader.put() + loader.deleted(), taken)),
      kExitDone);
}

}  // namespace

void add_kv_load(CLI::App& kv, Command& chosen) {
  CLI::App& command = *kv.add_subcommand(
      "load", "Put and remove what a file says, and make the store if it is not there yet.");
  const auto options = std::make_shared<LoadOptions>();
  add_store_directory(command, options->directory);
  command.add_option("FILE", options->file, "what to load, or - for standard input (-)")
      ->type_name("");
  add_parsed_option(
      command, "--format", options->format,
      [](std::string_view text) -> Parsed<std::optional<TextFormat>> {
        return parse_choice<TextFormat>(text,
                                        {{"tsv", TextFormat::tsv}, {"jsonl", TextFormat::jsonl}});
      },
      "tsv|jsonl", "what a line says (tsv where FILE ends so, else jsonl)");
  add_parsed_option(
      command, "--batch", options->lines_per_batch,
      [](std::string_view text) -> Parsed<std::optional<std::uint64_t>> {
        return parse_count(text, 1);
      },
      "N", "N lines are one atomic batch: after a crash all are there,\nor none");
  command.footer(
      "A line of tsv is KEY<TAB>VALUE, or KEY alone for a deletion; \\t \\n \\r \\\\ are escapes.\n"
      "\nExample:\n  nori kv load fruit.store fruit.tsv");
  on_chosen(command, chosen, options, load);
}

}  // namespace nori::cli
