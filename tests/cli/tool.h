// Running the real tool: what the tests of this folder speak in.

#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nori::cli_tests {

using Arguments = std::vector<std::string>;

/// How a run of the tool ended, and what it had to say.
struct Finished {
  int exit_code = -1;  ///< -1 if a signal ended it.
  int signal = 0;      ///< 0 if none did.
  std::string out;
  std::string err;
};

/// A tool at work, with pipes to its standard input and from its output. Killed with its object.
class RunningTool {
 public:
  /// `output_path`: a file that standard output goes to instead.
  explicit RunningTool(const Arguments& arguments, const char* output_path = nullptr);
  RunningTool(const RunningTool&) = delete;
  RunningTool& operator=(const RunningTool&) = delete;
  ~RunningTool();

  /// Writes to its input. False if it does not take any more.
  bool write(std::string_view text);
  void close_input();
  /// Nobody reads what it prints any more.
  void close_output();

  /// Its next line, without the newline; nothing if none comes in time or none will.
  std::optional<std::string> read_line(std::chrono::milliseconds timeout = std::chrono::seconds{
                                           20});

  void kill(int signal) const;

  /// Closes its input, reads what it still prints and waits for its end.
  Finished wait();

 private:
  bool read_some(std::chrono::milliseconds timeout);

  pid_t process_ = -1;
  int input_ = -1;
  int output_ = -1;
  int error_ = -1;      // a file in memory, so that it never has to wait for us
  std::string unread_;  // of what it printed
};

/// Runs the tool from start to end.
Finished run(const Arguments& arguments, std::string_view input = {});

/// The lines of a text, without their newlines.
std::vector<std::string> lines_of(std::string_view text);

/// A directory of its own for each test, and a log in it.
class ToolTest : public ::testing::Test {
 protected:
  ToolTest();
  ~ToolTest() override;

  /// The log's directory; it does not exist yet.
  [[nodiscard]] std::string log() const { return path("log"); }
  /// Another place beside it.
  [[nodiscard]] std::string path(std::string_view name) const { return (scratch_ / name).string(); }

  /// Appends, and expects that to go well. `more` are options.
  Finished append(std::string_view input, const Arguments& more = {}) const;
  /// Dumps as tsv, and expects that to go well.
  [[nodiscard]] std::string dump_tsv(const Arguments& more = {}) const;
  /// Dumps as jsonl, expects that to go well and parses it.
  [[nodiscard]] std::vector<nlohmann::json> dump_json(const Arguments& more = {}) const;

 private:
  std::filesystem::path scratch_;
};

/// Flips a bit of the first place in a file where `text` stands.
void damage(const std::string& file, std::string_view text);

/// Flips a bit of the byte at `offset`.
void damage_at(const std::string& file, std::uint64_t offset);

/// Names, times and contents (as hashes) of all files below `directory`.
std::vector<std::string> everything_in(const std::string& directory);

/// `key-0<TAB>value-0` to `key-N<TAB>value-N`, from `first` on.
std::string numbered_lines(std::uint64_t first, std::uint64_t end);

// What a test expects of a run.

/// It ended with 0 and said nothing on standard error.
testing::AssertionResult went_well(const Finished& finished);
/// It ended with `exit_code` and one line `nori: ...` on standard error, which contains `words`.
testing::AssertionResult failed_with(const Finished& finished, int exit_code,
                                     std::string_view words);
/// `signal` ended it, without a word.
testing::AssertionResult ended_quietly_by(const Finished& finished, int signal);

}  // namespace nori::cli_tests
