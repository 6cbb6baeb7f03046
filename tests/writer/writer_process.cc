#include "tests/writer/writer_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

namespace nori::writer_tests {

using std::chrono::steady_clock;

WriterProcess::WriterProcess(const WriterOptions& options) {
  std::array<int, 2> output{};
  if (::pipe2(output.data(), O_CLOEXEC) != 0) {
    ADD_FAILURE() << "pipe2";
    return;
  }
  output_ = output[0];
  // What a killed writer has said is in the pipe; a child of its own may hold the other end longer.
  ::fcntl(output_, F_SETFL, O_NONBLOCK);

  auto arguments = options.to_arguments();
  arguments.insert(arguments.begin(), NORI_WRITER_PATH);
  std::vector<char*> pointers;
  for (auto& argument : arguments) {
    pointers.push_back(argument.data());
  }
  pointers.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, output[1], STDOUT_FILENO);
  if (::posix_spawn(&process_, pointers[0], &actions, nullptr, pointers.data(), environ) != 0) {
    ADD_FAILURE() << "cannot start " << pointers[0];
    process_ = -1;
  }
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(output[1]);
}

WriterProcess::~WriterProcess() {
  kill();
  if (output_ >= 0) {
    ::close(output_);
  }
}

bool WriterProcess::hear() {
  std::array<char, 64 * 1024> buffer{};
  const auto bytes = ::read(output_, buffer.data(), buffer.size());
  if (bytes <= 0) {
    return bytes < 0 && (errno == EAGAIN || errno == EINTR);
  }
  unread_.append(buffer.data(), static_cast<std::size_t>(bytes));
  std::size_t taken = 0;
  for (; unread_.size() - taken >= sizeof(Message); taken += sizeof(Message)) {
    Message message;
    std::memcpy(&message, &unread_[taken], sizeof(message));
    appends_ += message.kind == Message::Kind::appended ? 1 : 0;
    messages_.push_back(message);
  }
  unread_.erase(0, taken);
  return true;
}

bool WriterProcess::listen(std::chrono::microseconds time, const std::function<bool()>& enough) {
  const auto end = steady_clock::now() + time;
  while (!enough()) {
    const auto left =
        std::chrono::duration_cast<std::chrono::nanoseconds>(end - steady_clock::now()).count();
    if (left <= 0) {
      return false;
    }
    const timespec wait{.tv_sec = left / 1'000'000'000, .tv_nsec = left % 1'000'000'000};
    pollfd ready{.fd = output_, .events = POLLIN, .revents = 0};
    if (::ppoll(&ready, 1, &wait, nullptr) == 1 && !hear()) {
      return enough();
    }
  }
  return true;
}

bool WriterProcess::wait_for(Message::Kind kind) {
  return listen(std::chrono::seconds(60), [&] { return has_said(kind); });
}

void WriterProcess::hear_all() {
  for (auto heard = ~std::size_t{0}; heard != messages_.size();) {
    heard = messages_.size();
    hear();
  }
}

bool WriterProcess::kill() {
  if (process_ <= 0) {
    return false;
  }
  ::kill(process_, SIGKILL);
  int status = 0;
  ::waitpid(std::exchange(process_, -1), &status, 0);
  hear_all();
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

const Message* WriterProcess::last(Message::Kind kind) const {
  const auto found = std::find_if(messages_.rbegin(), messages_.rend(),
                                  [kind](const Message& message) { return message.kind == kind; });
  return found == messages_.rend() ? nullptr : &*found;
}

}  // namespace nori::writer_tests
