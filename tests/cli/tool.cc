#include "tests/cli/tool.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <functional>
#include <iterator>
#include <stdexcept>
#include <system_error>
#include <thread>

extern char** environ;

namespace nori::cli_tests {

namespace {

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
      throw std::system_error(errno, std::generic_category(), "pipe2");
    }
    read_end = ends[0];
    write_end = ends[1];
  }
  int read_end = -1;
  int write_end = -1;
};

void close_once(int& descriptor) {
  if (descriptor >= 0) {
    ::close(descriptor);
    descriptor = -1;
  }
}

std::string read_file(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

}  // namespace

RunningTool::RunningTool(const Arguments& arguments, const char* output_path) {
  ::signal(SIGPIPE, SIG_IGN);  // ours, when it ends before it has read everything
  Pipe input;
  Pipe output;
  error_ = ::memfd_create("stderr", MFD_CLOEXEC);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input.read_end, STDIN_FILENO);
  if (output_path != nullptr) {
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output_path, O_WRONLY, 0);
  } else {
    posix_spawn_file_actions_adddup2(&actions, output.write_end, STDOUT_FILENO);
  }
  posix_spawn_file_actions_adddup2(&actions, error_, STDERR_FILENO);

  // As from a shell, whatever this process was started with.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t signals;
  sigemptyset(&signals);
  posix_spawnattr_setsigmask(&attributes, &signals);
  for (const int signal : {SIGPIPE, SIGINT, SIGTERM}) {
    sigaddset(&signals, signal);
  }
  posix_spawnattr_setsigdefault(&attributes, &signals);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  std::string name = "nori";
  std::vector<std::string> copies = arguments;
  std::vector<char*> pointers = {name.data()};
  for (auto& argument : copies) {
    pointers.push_back(argument.data());
  }
  pointers.push_back(nullptr);
  const int error =
      ::posix_spawn(&process_, NORI_TOOL_PATH, &actions, &attributes, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  ::close(input.read_end);
  ::close(output.write_end);
  input_ = input.write_end;
  output_ = output.read_end;
  if (error != 0) {
    throw std::system_error(error, std::generic_category(), NORI_TOOL_PATH);
  }
}

RunningTool::~RunningTool() {
  if (process_ > 0) {
    ::kill(process_, SIGKILL);
    ::waitpid(process_, nullptr, 0);
  }
  close_once(input_);
  close_once(output_);
  close_once(error_);
}

bool RunningTool::write(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(input_, text.data(), text.size());
    if (written <= 0) {
      return false;
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

void RunningTool::close_input() { close_once(input_); }

void RunningTool::close_output() { close_once(output_); }

std::optional<std::string> RunningTool::read_line(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    if (const auto newline = unread_.find('\n'); newline != std::string::npos) {
      std::string line = unread_.substr(0, newline);
      unread_.erase(0, newline + 1);
      return line;
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0 || !read_some(left)) {
      return std::nullopt;
    }
  }
}

bool RunningTool::read_some(std::chrono::milliseconds timeout) {
  pollfd wait_for = {.fd = output_, .events = POLLIN, .revents = 0};
  if (output_ < 0 || ::poll(&wait_for, 1, static_cast<int>(timeout.count())) != 1) {
    return false;
  }
  std::array<char, 65536> piece{};
  const ssize_t bytes_read = ::read(output_, piece.data(), piece.size());
  if (bytes_read <= 0) {
    return false;
  }
  unread_.append(piece.data(), static_cast<std::size_t>(bytes_read));
  return true;
}

void RunningTool::kill(int signal) const { ::kill(process_, signal); }

Finished RunningTool::wait() {
  constexpr std::chrono::seconds kPatience{60};
  close_input();
  while (read_some(kPatience)) {
  }
  Finished finished;
  int status = 0;
  while (::waitpid(process_, &status, 0) < 0 && errno == EINTR) {
  }
  process_ = -1;
  if (WIFEXITED(status)) {
    finished.exit_code = WEXITSTATUS(status);
  } else {
    finished.signal = WTERMSIG(status);
  }
  finished.out = std::move(unread_);
  finished.err.resize(static_cast<std::size_t>(::lseek(error_, 0, SEEK_END)));
  const ssize_t bytes_read = ::pread(error_, finished.err.data(), finished.err.size(), 0);
  finished.err.resize(static_cast<std::size_t>(std::max<ssize_t>(bytes_read, 0)));
  return finished;
}

Finished run(const Arguments& arguments, std::string_view input) {
  RunningTool tool(arguments);
  std::thread writer([&tool, input] {
    tool.write(input);
    tool.close_input();
  });
  std::string out;
  while (const auto line = tool.read_line(std::chrono::seconds{60})) {
    out += *line + '\n';
  }
  writer.join();
  Finished finished = tool.wait();
  finished.out.insert(0, out);
  return finished;
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const auto newline = std::min(text.find('\n'), text.size());
    lines.emplace_back(text.substr(0, newline));
    text.remove_prefix(std::min(newline + 1, text.size()));
  }
  return lines;
}

ToolTest::ToolTest() {
  std::string name = testing::TempDir() + "nori-cli-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) {
    throw std::system_error(errno, std::generic_category(), name);
  }
  scratch_ = name;
}

ToolTest::~ToolTest() {
  std::error_code ignored;
  std::filesystem::remove_all(scratch_, ignored);
}

Finished ToolTest::append(std::string_view input, const Arguments& more) const {
  Arguments arguments = {"append", log()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  Finished finished = run(arguments, input);
  EXPECT_TRUE(went_well(finished));
  return finished;
}

std::string ToolTest::dump_tsv(const Arguments& more) const {
  Arguments arguments = {"dump", log(), "--format", "tsv"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  Finished finished = run(arguments);
  EXPECT_TRUE(went_well(finished));
  return finished.out;
}

std::vector<nlohmann::json> ToolTest::dump_json(const Arguments& more) const {
  Arguments arguments = {"dump", log()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  const Finished finished = run(arguments);
  EXPECT_TRUE(went_well(finished));
  std::vector<nlohmann::json> records;
  for (const auto& line : lines_of(finished.out)) {
    records.push_back(nlohmann::json::parse(line));
  }
  return records;
}

void damage(const std::string& file, std::string_view text) {
  const std::string contents = read_file(file);
  const auto offset = contents.find(text);
  ASSERT_NE(offset, std::string::npos) << text << " does not stand in " << file;
  damage_at(file, offset);
}

void damage_at(const std::string& file, std::uint64_t offset) {
  std::fstream stream(file, std::ios::binary | std::ios::in | std::ios::out);
  stream.seekg(static_cast<std::streamoff>(offset));
  const int byte = stream.get();
  stream.seekp(static_cast<std::streamoff>(offset));
  stream.put(static_cast<char>(byte ^ 1));
  ASSERT_TRUE(stream.flush());
}

std::vector<std::string> everything_in(const std::string& directory) {
  std::vector<std::string> files;
  for (const auto& file : std::filesystem::recursive_directory_iterator(directory)) {
    const auto contents = file.is_regular_file() ? read_file(file.path()) : "a directory";
    files.push_back(fmt::format("{}, written {}: {} bytes, hash {}", file.path().string(),
                                file.last_write_time().time_since_epoch().count(), contents.size(),
                                std::hash<std::string>{}(contents)));
  }
  std::ranges::sort(files);
  return files;
}

std::string numbered_lines(std::uint64_t first, std::uint64_t end) {
  std::string lines;
  for (std::uint64_t number = first; number < end; ++number) {
    lines += fmt::format("key-{}\tvalue-{}\n", number, number);
  }
  return lines;
}

namespace {

testing::AssertionResult failure_of(const Finished& finished) {
  return testing::AssertionFailure() << "it ended with " << finished.exit_code << ", signal "
                                     << finished.signal << ", standard error: " << finished.err;
}

}  // namespace

testing::AssertionResult went_well(const Finished& finished) {
  return finished.exit_code == 0 && finished.err.empty() ? testing::AssertionSuccess()
                                                         : failure_of(finished);
}

testing::AssertionResult failed_with(const Finished& finished, int exit_code,
                                     std::string_view words) {
  const auto lines = lines_of(finished.err);
  return finished.exit_code == exit_code && lines.size() == 1 &&
                 lines.front().starts_with("nori: ") && lines.front().contains(words)
             ? testing::AssertionSuccess()
             : failure_of(finished);
}

testing::AssertionResult ended_quietly_by(const Finished& finished, int signal) {
  return finished.signal == signal && finished.err.empty() ? testing::AssertionSuccess()
                                                           : failure_of(finished);
}

}  // namespace nori::cli_tests
