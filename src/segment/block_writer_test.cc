#include "segment/block_writer.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "testing/random.h"
#include "testing/simulated_disk.h"

namespace nori {
namespace {

using testing::SimulatedDisk;

constexpr std::uint64_t kBlock = 4096;

/// A file on a disk that takes direct writes of whole blocks and refuses all others.
class BlockWriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = *disk_.open_directory("log", true);
    file_ = *directory_->open("file", io::Access::write_direct, io::Creation::replace);
    disk_.set_tracing(true);
  }

  [[nodiscard]] std::string contents() const {
    const auto bytes = disk_.read_file("log/file");
    EXPECT_TRUE(bytes);
    return std::string(as_text(*bytes));
  }

  static std::string random_text(testing::Random& random, std::size_t bytes) {
    std::string text;
    for (std::size_t i = 0; i < bytes; ++i) {
      text.push_back(static_cast<char>(random.next() | 1));
    }
    return text;
  }

  SimulatedDisk disk_{1};
  std::unique_ptr<io::Directory> directory_;
  std::unique_ptr<io::File> file_;
};

TEST_F(BlockWriterTest, WhateverThePiecesTheFileHoldsThemInOrder) {
  testing::Random random(3);
  std::string expected(3 * kBlock, '\0');
  BlockWriter writer(*file_, expected.size(), kBlock);
  for (int i = 0; i < 60; ++i) {
    const auto bytes = random.below(random.coin() ? 100 : 100'000);
    if (random.coin()) {
      const auto text = random_text(random, bytes);
      ASSERT_TRUE(writer.write(as_byte_view(text)));
      expected += text;
    } else {
      ASSERT_TRUE(writer.write_zeros(bytes));
      expected.append(bytes, '\0');
    }
    ASSERT_EQ(writer.offset(), expected.size());
  }
  ASSERT_TRUE(writer.finish());
  expected.resize(round_up(expected.size(), kBlock), '\0');
  EXPECT_EQ(writer.offset(), expected.size());
  EXPECT_EQ(contents(), expected);
}

TEST_F(BlockWriterTest, WritesLargePieces) {
  BlockWriter writer(*file_, 0, kBlock);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(writer.write(as_byte_view(std::string(10'000, 'x'))));
  }
  ASSERT_TRUE(writer.finish());
  EXPECT_LE(disk_.trace().size(), 5U) << "a megabyte, in pieces of a quarter";
}

TEST_F(BlockWriterTest, NothingToWriteIsNoWrite) {
  BlockWriter writer(*file_, kBlock, kBlock);
  ASSERT_TRUE(writer.write({}));
  ASSERT_TRUE(writer.write_zeros(0));
  ASSERT_TRUE(writer.finish());
  EXPECT_EQ(writer.offset(), kBlock);
  EXPECT_TRUE(disk_.trace().empty());
}

TEST_F(BlockWriterTest, WholeBlocksAreNotFilledUp) {
  BlockWriter writer(*file_, 0, kBlock);
  ASSERT_TRUE(writer.write(as_byte_view(std::string(2 * kBlock, 'x'))));
  ASSERT_TRUE(writer.finish());
  EXPECT_EQ(contents(), std::string(2 * kBlock, 'x'));
}

TEST_F(BlockWriterTest, AFailedWriteIsToldAndCanBeRepeated) {
  BlockWriter writer(*file_, 0, kBlock);
  ASSERT_TRUE(writer.write(as_byte_view("text")));
  disk_.fail_nth(testing::Operation::write, 0, ENOSPC);
  const auto failed = writer.finish();
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::no_space);
  ASSERT_TRUE(writer.finish());
  EXPECT_EQ(contents().substr(0, 5), std::string("text\0", 5));
}

// The zeros that fill the last block may be what fills the buffer.
TEST_F(BlockWriterTest, AWriteThatFailsWhileTheLastBlockIsFilledIsTold) {
  BlockWriter writer(*file_, 0, kBlock);
  const std::string text(256 * 1024 - 10, 'x');
  ASSERT_TRUE(writer.write(as_byte_view(text)));
  disk_.fail_nth(testing::Operation::write, 0, EIO);
  const auto failed = writer.finish();
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::io);
}

}  // namespace
}  // namespace nori
