#include "cli/progress_bar.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

namespace nori::cli {
namespace {

using std::chrono::duration;
using std::chrono::milliseconds;

TEST(ProgressBarTest, TellsHowFarItIsAndHowFast) {
  EXPECT_EQ(progress_text(50, 200, 1000, duration<double>(0.5)),
            "[#####---------------]  25 %  1000 lines, 2000/s");
  EXPECT_EQ(progress_text(200, 200, 4, duration<double>(2)),
            "[####################] 100 %  4 lines, 2/s");
}

TEST(ProgressBarTest, WhatIsNotKnownIsLeftOut) {
  EXPECT_EQ(progress_text(50, std::nullopt, 10, duration<double>(1)), "10 lines, 10/s");
  EXPECT_EQ(progress_text(0, 0, 0, duration<double>(0)),
            "[####################] 100 %  0 lines, 0/s");
  EXPECT_TRUE(progress_text(300, 200, 1, duration<double>(1)).contains("100 %")) << "it has grown";
}

TEST(ProgressBarTest, WritesALineOfATerminalAndTakesItAway) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(master, 0);
  ASSERT_EQ(::grantpt(master), 0);
  ASSERT_EQ(::unlockpt(master), 0);
  std::array<char, 100> name{};
  ASSERT_EQ(::ptsname_r(master, name.data(), name.size()), 0);
  const int terminal = ::open(name.data(), O_RDWR | O_NOCTTY);
  ASSERT_GE(terminal, 0);
  {
    ProgressBar bar(terminal, 10);
    bar.show(1, 1);  // too soon to be of interest
    std::this_thread::sleep_for(milliseconds{110});
    bar.show(5, 7);
    bar.show(6, 8);
  }
  ::close(terminal);  // so that reading ends, and not before all of it is there
  std::string written;
  std::array<char, 1000> bytes{};
  for (auto size = ::read(master, bytes.data(), bytes.size()); size > 0;
       size = ::read(master, bytes.data(), bytes.size())) {
    written.append(bytes.data(), static_cast<std::size_t>(size));
  }
  EXPECT_TRUE(written.starts_with("\r\x1b[K[##########----------]  50 %  7 lines, ")) << written;
  EXPECT_FALSE(written.contains("8 lines")) << written;
  EXPECT_TRUE(written.ends_with("\r\x1b[K")) << written;
  ::close(master);
}

TEST(ProgressBarTest, WritesNothingWhereThereIsNoTerminal) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  {
    ProgressBar bar(ends[1], 10);
    std::this_thread::sleep_for(milliseconds{110});
    bar.show(5, 7);
  }
  ::close(ends[1]);
  char byte = 0;
  EXPECT_EQ(::read(ends[0], &byte, 1), 0);
  ::close(ends[0]);
}

}  // namespace
}  // namespace nori::cli
