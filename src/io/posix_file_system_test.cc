#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "io/file_system.h"

namespace nori::io {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kAligned = 64 * 1024;

/// Memory for direct I/O, all of one letter.
class Block {
 public:
  Block(char letter, std::size_t bytes)
      : memory_(static_cast<std::byte*>(std::aligned_alloc(kAligned, kAligned))), bytes_(bytes) {
    std::memset(memory_.get(), letter, kAligned);
  }
  [[nodiscard]] ByteSpan span() const { return {memory_.get(), bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const noexcept { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  std::size_t bytes_;
};

std::unique_ptr<Directory> open_directory(const fs::path& path, bool create = false) {
  auto opened = posix_file_system().open_directory(path, create);
  EXPECT_TRUE(opened) << opened.error().message;
  return std::move(*opened);
}

std::string read_all(File& file, std::uint64_t offset = 0, std::size_t bytes_max = 1 << 20) {
  std::string text(bytes_max, '-');
  const auto read = file.read_at(offset, std::as_writable_bytes(std::span(text)));
  EXPECT_TRUE(read) << read.error().message;
  text.resize(read.value_or(0));
  return text;
}

Result<void> write(File& file, std::uint64_t offset, std::string_view text, bool durable = false) {
  return file.write_at(offset, as_byte_view(text), {}, durable);
}

std::string contents_of(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

/// How the child exited that runs `body`: 0 if it returned true and no expectation in it failed.
/// Expectations that fail are printed there.
class Child {
 public:
  template <typename Body>
  explicit Child(Body body) {
    std::fflush(nullptr);  // or both would print what is waiting
    id_ = ::fork();
    if (id_ == 0) {
      ::alarm(60);  // whatever becomes of the test, it does not stay
      const bool is_good = body();
      std::fflush(nullptr);
      ::_exit(is_good && !::testing::Test::HasFailure() ? 0 : 1);
    }
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (is_running_) {
      kill();
    }
  }

  [[nodiscard]] pid_t id() const { return id_; }

  int exit_status() {
    int status = -1;
    EXPECT_EQ(::waitpid(id_, &status, 0), id_);
    is_running_ = false;
    return status;
  }

  void kill() {
    ::kill(id_, SIGKILL);
    exit_status();
  }

 private:
  pid_t id_ = -1;
  bool is_running_ = true;
};

/// Numbers sent from a child to its parent.
class Pipe {
 public:
  Pipe() { EXPECT_EQ(::pipe2(ends_.data(), O_CLOEXEC), 0); }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }

  void send(std::int64_t number) const {
    EXPECT_EQ(::write(ends_[1], &number, sizeof(number)), static_cast<ssize_t>(sizeof(number)));
  }
  [[nodiscard]] std::int64_t receive() const {
    std::int64_t number = -1;
    EXPECT_EQ(::read(ends_[0], &number, sizeof(number)), static_cast<ssize_t>(sizeof(number)));
    return number;
  }

 private:
  std::array<int, 2> ends_ = {-1, -1};
};

/// An empty directory on a disk: not in /tmp, which may be memory.
class PosixFileSystemTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::current_path() / "posix_test_XXXXXX").native();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    directory_ = open_directory(root_);
  }
  void TearDown() override {
    directory_.reset();
    std::error_code ignored;
    fs::permissions(root_, fs::perms::owner_all, ignored);
    fs::remove_all(root_, ignored);
  }

  std::unique_ptr<File> open(std::string_view name, Access access = Access::write_buffered,
                             Creation creation = Creation::existing) {
    auto file = directory_->open(name, access, creation);
    EXPECT_TRUE(file) << file.error().message;
    return file ? std::move(*file) : nullptr;
  }
  std::unique_ptr<File> make(std::string_view name, std::string_view text = {}) {
    auto file = open(name, Access::write_buffered, Creation::replace);
    EXPECT_TRUE(write(*file, 0, text));
    return file;
  }
  /// nullptr, with a failed expectation, where the file is not as it has to be.
  std::unique_ptr<Mapping> map(std::string_view name) {
    auto mapping = directory_->map(name);
    EXPECT_TRUE(mapping) << mapping.error().message;
    return mapping ? std::move(*mapping) : nullptr;
  }

  /// The error's message names `name` in the directory, and its code and errno are these.
  template <typename T>
  void expect_error(const Result<T>& result, ErrorCode code, int system_errno,
                    std::string_view name) const {
    ASSERT_FALSE(result);
    EXPECT_EQ(error_code_name(result.error().code), error_code_name(code));
    EXPECT_EQ(result.error().system_errno, system_errno);
    const auto path = name.empty() ? root_ : root_ / name;
    EXPECT_TRUE(result.error().message.starts_with(path.native() + ": ")) << result.error().message;
  }

  fs::path root_;
  std::unique_ptr<Directory> directory_;
};

class PosixFileTest : public PosixFileSystemTest {};
class PosixDirectoryTest : public PosixFileSystemTest {};
class PosixMappingTest : public PosixFileSystemTest {};
class PosixLockTest : public PosixFileSystemTest {};
class PosixForkTest : public PosixFileSystemTest {};
class PosixForkThreadsTest : public PosixFileSystemTest {};
class PosixFullDiskTest : public PosixFileSystemTest {};

// --- Files

TEST_F(PosixFileTest, BufferedBytesAreReadBack) {
  const auto file = make("a");
  ASSERT_TRUE(write(*file, 3, "hello"));
  EXPECT_EQ(read_all(*file), std::string("\0\0\0hello", 8));
  EXPECT_EQ(read_all(*file, 4, 2), "el");
  EXPECT_EQ(read_all(*file, 8), "");
  EXPECT_EQ(read_all(*file, 1'000'000), "");
  EXPECT_EQ(file->size(), 8U);
  EXPECT_EQ(read_all(*open("a", Access::read)), std::string("\0\0\0hello", 8));
}

TEST_F(PosixFileTest, TwoPiecesAreWrittenOneBehindTheOther) {
  const auto file = make("a");
  ASSERT_TRUE(file->write_at(1, as_byte_view("first"), as_byte_view("second"), false));
  ASSERT_TRUE(file->write_at(12, {}, as_byte_view("third"), true));
  ASSERT_TRUE(file->write_at(0, as_byte_view("0"), {}, true));
  ASSERT_TRUE(file->write_at(5'000, {}, {}, true));
  EXPECT_EQ(read_all(*file), "0firstsecondthird");
}

TEST_F(PosixFileTest, DurableWritesAndSyncsSucceed) {
  const auto file = make("a");
  ASSERT_TRUE(write(*file, 0, "durable", true));
  ASSERT_TRUE(write(*file, 7, " and synced"));
  ASSERT_TRUE(file->sync());
  EXPECT_EQ(read_all(*file), "durable and synced");
}

TEST_F(PosixFileTest, DirectBytesAreReadBack) {
  const auto& traits = directory_->traits();
  if (!traits.direct_allowed) {
    GTEST_SKIP() << traits.file_system_name << " is not written to directly";
  }
  const auto opened = directory_->open("a", Access::write_direct, Creation::replace);
  if (!opened) {
    EXPECT_EQ(opened.error().system_errno, EINVAL);
    GTEST_SKIP() << traits.file_system_name << " refuses: " << opened.error().message;
  }
  auto& file = **opened;
  const auto unit = traits.direct_alignment;
  const Block x('x', unit);
  const Block y('y', 2 * unit);
  ASSERT_TRUE(file.write_at(unit, x.span(), y.span(), false));
  ASSERT_TRUE(file.write_at(0, {}, y.span().first(unit), true));
  ASSERT_TRUE(file.sync());

  const Block read('-', kAligned);
  const auto count = file.read_at(0, read.span());
  ASSERT_TRUE(count) << count.error().message;
  const auto expected =
      std::string(unit, 'y') + std::string(unit, 'x') + std::string(2 * unit, 'y');
  EXPECT_EQ(as_text(read.span().first(*count)), expected);
  EXPECT_EQ(contents_of(root_ / "a"), expected);
}

TEST_F(PosixFileTest, ADirectReadEndsWithTheFile) {
  make("a", std::string(5'000, 'a'));
  const auto opened = directory_->open("a", Access::write_direct, Creation::existing);
  if (!opened) {
    GTEST_SKIP() << opened.error().message;
  }
  const Block read('-', kAligned);
  EXPECT_EQ((*opened)->read_at(0, read.span()), 5'000U);
  EXPECT_EQ((*opened)->read_at(4'096, read.span()), 904U);
  EXPECT_EQ((*opened)->read_at(8'192, read.span()), 0U);
}

TEST_F(PosixFileTest, ADirectWriteThatIsNotAlignedIsRefusedOrWhole) {
  const auto opened = directory_->open("a", Access::write_direct, Creation::replace);
  if (!opened) {
    GTEST_SKIP() << opened.error().message;
  }
  const Block x('x', kAligned);
  const auto written = (*opened)->write_at(0, x.span().subspan(1, 511), {}, true);
  if (written) {  // btrfs writes it through the page cache
    EXPECT_EQ(contents_of(root_ / "a"), std::string(511, 'x'));
  } else {
    expect_error(written, ErrorCode::io, EINVAL, "a");
  }
}

TEST_F(PosixFileTest, AllocationExtendsWithZeros) {
  const auto file = make("a", "hello");
  ASSERT_TRUE(file->allocate(0, 1 << 20));
  EXPECT_EQ(file->size(), 1U << 20);
  EXPECT_EQ(read_all(*file), "hello" + std::string((1 << 20) - 5, '\0'));
  ASSERT_TRUE(file->allocate(4'096, 10));
  EXPECT_EQ(file->size(), 1U << 20);
  ASSERT_TRUE(file->allocate(1 << 20, 10));
  EXPECT_EQ(file->size(), (1U << 20) + 10);
  const auto& file_system = directory_->traits().file_system_name;
  if (file_system == "ext4" || file_system == "xfs" || file_system == "tmpfs") {
    struct stat status = {};
    ASSERT_EQ(::stat((root_ / "a").c_str(), &status), 0);
    EXPECT_GE(status.st_blocks * 512, 1 << 20);
  }
}

TEST_F(PosixFileTest, TruncationCutsAndExtends) {
  const auto file = make("a", "hello");
  ASSERT_TRUE(file->truncate(2));
  ASSERT_TRUE(file->truncate(4));
  EXPECT_EQ(read_all(*file), std::string("he\0\0", 4));
}

TEST_F(PosixFileTest, ReplaceMakesANewOnePrivateAndEmpty) {
  const auto old = make("a", "old");
  std::filesystem::create_hard_link(root_ / "a", root_ / "b");
  const auto file = make("a");
  EXPECT_EQ(file->size(), 0U);
  EXPECT_NE(file->id(), old->id());
  EXPECT_EQ(directory_->id_of("a"), file->id());
  EXPECT_EQ(read_all(*open("b")), "old") << "its other name keeps the bytes";
  struct stat status = {};
  ASSERT_EQ(::stat((root_ / "a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0177, 0U);
}

TEST_F(PosixFileTest, AFileKeepsItsIdUnderAnotherName) {
  const auto file = make("a");
  make("b");
  EXPECT_EQ(directory_->id_of("a"), file->id());
  EXPECT_NE(directory_->id_of("b"), file->id());
  ASSERT_TRUE(directory_->rename("a", "b"));
  EXPECT_EQ(directory_->id_of("b"), file->id());
  expect_error(directory_->id_of("a"), ErrorCode::io, ENOENT, "a");
}

TEST_F(PosixFileTest, PlacesBeyondAnyFileAreErrors) {
  const auto file = make("a", "hello");
  constexpr auto kEnd = std::numeric_limits<std::uint64_t>::max();
  std::array<std::byte, 8> bytes = {};
  for (const auto offset : {kEnd, kEnd - 7, kEnd / 2}) {
    expect_error(file->read_at(offset, bytes), ErrorCode::io, EFBIG, "a");
    expect_error(file->write_at(offset, bytes, {}, false), ErrorCode::io, EFBIG, "a");
    expect_error(file->allocate(offset, 8), ErrorCode::io, EFBIG, "a");
  }
  expect_error(file->truncate(kEnd), ErrorCode::io, EFBIG, "a");
  EXPECT_EQ(contents_of(root_ / "a"), "hello");
}

TEST_F(PosixFileTest, AReadHandleDoesNotWrite) {
  make("a", "hello");
  const auto file = open("a", Access::read);
  expect_error(write(*file, 0, "x"), ErrorCode::io, EBADF, "a");
}

TEST_F(PosixFileTest, OpeningWhatIsNoFileIsAnError) {
  expect_error(directory_->open("none", Access::read, Creation::existing), ErrorCode::io, ENOENT,
               "none");
  ASSERT_TRUE(directory_->subdirectory("inner"));
  expect_error(directory_->open("inner", Access::read, Creation::existing), ErrorCode::io, EISDIR,
               "inner");
  expect_error(directory_->open("inner", Access::write_buffered, Creation::replace), ErrorCode::io,
               EISDIR, "inner");
}

TEST_F(PosixFileTest, AFileThatIsReplacedKeepsItsBytesUnderItsOtherName) {
  make("a", "hello");
  fs::create_hard_link(root_ / "a", root_ / "b");
  const auto made = open("a", Access::write_buffered, Creation::replace);
  EXPECT_EQ(contents_of(root_ / "a"), "");
  EXPECT_EQ(contents_of(root_ / "b"), "hello");
}

TEST_F(PosixFileTest, APipeIsRefusedAndNotWaitedFor) {
  ASSERT_EQ(::mkfifo((root_ / "pipe").c_str(), 0600), 0);
  for (const auto access : {Access::read, Access::write_buffered}) {
    expect_error(directory_->open("pipe", access, Creation::existing), ErrorCode::io, EINVAL,
                 "pipe");
  }
}

TEST_F(PosixFileTest, ASymbolicLinkIsRefused) {
  make("a", "hello");
  fs::create_symlink("a", root_ / "link");
  for (const auto access : {Access::read, Access::write_buffered}) {
    for (const auto creation : {Creation::existing, Creation::replace}) {
      expect_error(directory_->open("link", access, creation), ErrorCode::io, ELOOP, "link");
    }
  }
  expect_error(directory_->map("link"), ErrorCode::io, ELOOP, "link");
  expect_error(directory_->lock("link", "me"), ErrorCode::io, ELOOP, "link");
  EXPECT_EQ(contents_of(root_ / "a"), "hello");
}

TEST_F(PosixFileTest, WhatIsForbiddenIsAPermissionError) {
  make("a");
  fs::permissions(root_ / "a", fs::perms::none);
  fs::permissions(root_, fs::perms::owner_read | fs::perms::owner_exec);
  Child child([&] {
    directory_ = open_directory(root_);
    if (::geteuid() == 0 && ::seteuid(65'534) != 0) {
      return false;
    }
    expect_error(directory_->open("b", Access::write_buffered, Creation::replace),
                 ErrorCode::permission, EACCES, "b");
    expect_error(directory_->open("a", Access::read, Creation::existing), ErrorCode::permission,
                 EACCES, "a");
    expect_error(directory_->remove("a"), ErrorCode::permission, EACCES, "a");
    return true;
  });
  EXPECT_EQ(child.exit_status(), 0);
}

// --- Directories

TEST_F(PosixDirectoryTest, ListsAllNamesButItsOwn) {
  EXPECT_EQ(directory_->list(), std::vector<std::string>{});
  std::set<std::string> made;
  for (int i = 0; i < 2'000; ++i) {  // more than one read of the directory
    made.insert("a-name-that-is-not-short-" + std::to_string(i));
    make(*made.rbegin());
    make("a-name-that-is-not-short-" + std::to_string(i));
  }
  made.insert("inner");
  ASSERT_TRUE(directory_->subdirectory("inner"));
  made.insert(".hidden");
  make(".hidden");
  for (int again = 0; again < 2; ++again) {
    const auto names = directory_->list();
    ASSERT_TRUE(names) << names.error().message;
    EXPECT_EQ(std::set(names->begin(), names->end()), made);
    EXPECT_EQ(names->size(), made.size());
  }
}

TEST_F(PosixDirectoryTest, KnowsRoughlyHowMuchMayBeWritten) {
  struct statvfs about = {};
  ASSERT_EQ(::statvfs(directory_->path().c_str(), &about), 0);
  const auto expected = std::uint64_t{about.f_bavail} * about.f_frsize;
  EXPECT_GT(directory_->free_bytes(), expected / 2);
  EXPECT_LT(directory_->free_bytes(), expected + expected / 2);
}

TEST_F(PosixDirectoryTest, RenameReplaces) {
  make("a", "new");
  make("b", "old");
  ASSERT_TRUE(directory_->rename("a", "b"));
  ASSERT_TRUE(directory_->sync());
  EXPECT_EQ(directory_->list(), std::vector<std::string>{"b"});
  EXPECT_EQ(contents_of(root_ / "b"), "new");
  expect_error(directory_->rename("a", "b"), ErrorCode::io, ENOENT, "a");
}

TEST_F(PosixDirectoryTest, MovesToAnotherDirectory) {
  make("a", "moved");
  const auto inner = directory_->subdirectory("inner");
  ASSERT_TRUE(inner) << inner.error().message;
  EXPECT_EQ((*inner)->path(), root_ / "inner");
  ASSERT_TRUE(directory_->move_to("a", **inner, "b"));
  ASSERT_TRUE((*inner)->sync());
  EXPECT_EQ(contents_of(root_ / "inner" / "b"), "moved");
  EXPECT_EQ((*inner)->list(), std::vector<std::string>{"b"});
  const auto again = directory_->subdirectory("inner");
  ASSERT_TRUE(again);
  ASSERT_TRUE((*again)->move_to("b", *directory_, "c"));
  EXPECT_EQ(contents_of(root_ / "c"), "moved");
  struct stat status = {};
  ASSERT_EQ(::stat((root_ / "inner").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 077, 0U);
}

TEST_F(PosixDirectoryTest, OpeningASubdirectoryMakesNone) {
  expect_error(directory_->open_subdirectory("inner"), ErrorCode::io, ENOENT, "inner");
  EXPECT_EQ(directory_->list(), std::vector<std::string>{});
  ASSERT_TRUE(directory_->subdirectory("inner"));
  const auto inner = directory_->open_subdirectory("inner");
  ASSERT_TRUE(inner) << inner.error().message;
  EXPECT_EQ((*inner)->path(), root_ / "inner");
  make("file", "hello");
  expect_error(directory_->open_subdirectory("file"), ErrorCode::io, ENOTDIR, "file");
  std::filesystem::create_directory_symlink(root_ / "inner", root_ / "link");
  expect_error(directory_->open_subdirectory("link"), ErrorCode::io, ENOTDIR, "link");
}

TEST_F(PosixDirectoryTest, RemovesFilesOnly) {
  const auto file = make("a", "hello");
  ASSERT_TRUE(directory_->remove("a"));
  expect_error(directory_->remove("a"), ErrorCode::io, ENOENT, "a");
  EXPECT_EQ(read_all(*file), "hello");
  ASSERT_TRUE(directory_->subdirectory("inner"));
  expect_error(directory_->remove("inner"), ErrorCode::io, EISDIR, "inner");
}

TEST_F(PosixDirectoryTest, NamesAreLookedUpInItWhereverItIs) {
  auto inner = directory_->subdirectory("inner");
  ASSERT_TRUE(inner);
  ASSERT_TRUE(directory_->rename("inner", "renamed"));
  ASSERT_TRUE((*inner)->open("a", Access::write_buffered, Creation::replace));
  EXPECT_TRUE(fs::exists(root_ / "renamed" / "a"));
}

TEST_F(PosixDirectoryTest, ANameThatLeadsElsewhereIsRefused) {
  using namespace std::string_view_literals;
  make("a");
  for (const auto name : {""sv, "."sv, ".."sv, "inner/a"sv, "../a"sv, "/tmp/a"sv, "a\0b"sv}) {
    const auto is_refused = [&](const auto& result) {
      return !result && result.error().code == ErrorCode::invalid_argument;
    };
    EXPECT_TRUE(is_refused(directory_->open(name, Access::write_buffered, Creation::replace)));
    EXPECT_TRUE(is_refused(directory_->rename("a", name)));
    EXPECT_TRUE(is_refused(directory_->remove(name)));
    EXPECT_TRUE(is_refused(directory_->subdirectory(name)));
    EXPECT_TRUE(is_refused(directory_->lock(name, "me")));
  }
}

TEST_F(PosixDirectoryTest, OpensOnlyWhatIsADirectory) {
  auto& system = posix_file_system();
  expect_error(system.open_directory(root_ / "none", false), ErrorCode::not_a_log, ENOENT, "none");
  EXPECT_FALSE(fs::exists(root_ / "none"));
  make("a");
  for (const bool create : {false, true}) {
    expect_error(system.open_directory(root_ / "a", create), ErrorCode::not_a_log, ENOTDIR, "a");
    expect_error(system.open_directory(root_ / "a/b", create), ErrorCode::not_a_log, ENOTDIR,
                 "a/b");
  }
  fs::create_symlink("nowhere", root_ / "dangling");
  expect_error(system.open_directory(root_ / "dangling", true), ErrorCode::not_a_log, ENOENT,
               "dangling");
  const auto empty = system.open_directory("", true);
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().code, ErrorCode::invalid_argument);
}

TEST_F(PosixDirectoryTest, MakesWhatIsMissingOnTheWay) {
  for (const auto* const path : {"a/b/c", "d/", "e//f/", "g/./h", "i/../j"}) {
    const auto opened = posix_file_system().open_directory(root_ / path, true);
    ASSERT_TRUE(opened) << opened.error().message;
    EXPECT_TRUE(fs::is_directory(root_ / path));
    EXPECT_EQ((*opened)->path(), root_ / path);
    ASSERT_TRUE(posix_file_system().open_directory(root_ / path, true));
  }
  struct stat status = {};
  ASSERT_EQ(::stat((root_ / "a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 077, 0U);
}

TEST_F(PosixDirectoryTest, ARelativePathBeginsInTheWorkingDirectory) {
  const auto name = root_.filename() / "a" / "b";
  const auto opened = open_directory(name, true);
  ASSERT_TRUE(opened->open("file", Access::write_buffered, Creation::replace));
  EXPECT_TRUE(fs::exists(root_ / "a" / "b" / "file"));
}

TEST_F(PosixDirectoryTest, ALinkToADirectoryMayBeALogButNotAPartOfOne) {
  ASSERT_TRUE(directory_->subdirectory("inner"));
  fs::create_directory_symlink("inner", root_ / "link");
  EXPECT_TRUE(posix_file_system().open_directory(root_ / "link", false));
  expect_error(directory_->subdirectory("link"), ErrorCode::io, ENOTDIR, "link");
}

TEST_F(PosixDirectoryTest, TraitsAreConsistent) {
  const auto& traits = directory_->traits();
  EXPECT_FALSE(traits.file_system_name.empty());
  EXPECT_TRUE(std::has_single_bit(traits.block_bytes));
  EXPECT_TRUE(std::has_single_bit(traits.direct_alignment));
  EXPECT_GE(traits.block_bytes, 4'096U);
  EXPECT_GE(traits.block_bytes, traits.direct_alignment);
  EXPECT_LE(traits.block_bytes, 64U * 1024);
  // They do not depend on what is in the directory.
  make("a");
  const auto again = open_directory(root_);
  EXPECT_EQ(again->traits().direct_alignment, traits.direct_alignment);
  EXPECT_EQ(again->traits().block_bytes, traits.block_bytes);
  EXPECT_EQ(again->traits().file_system_name, traits.file_system_name);
  RecordProperty("file_system", traits.file_system_name);
  RecordProperty("direct_alignment", std::to_string(traits.direct_alignment));
}

TEST_F(PosixDirectoryTest, AFileSystemWithoutADiskHasTraitsToo) {
  const auto proc = posix_file_system().open_directory("/proc", false);
  if (!proc) {
    GTEST_SKIP() << proc.error().message;
  }
  EXPECT_EQ((*proc)->traits().file_system_name, "0x9fa0");
  EXPECT_FALSE((*proc)->traits().mapping_allowed);
}

// --- Mappings

TEST_F(PosixMappingTest, StoresAreInTheFile) {
  const auto file = make("ring");
  ASSERT_TRUE(file->allocate(0, 64 * 1024));
  {
    const auto mapping = map("ring");
    ASSERT_EQ(mapping->bytes().size(), 64U * 1024);
    std::memcpy(mapping->bytes().data() + 5'000, "stored", 6);
    EXPECT_EQ(read_all(*file, 5'000, 6), "stored");
    ASSERT_TRUE(write(*file, 0, "written"));
    EXPECT_EQ(as_text(mapping->bytes().first(7)), "written");
  }
  EXPECT_EQ(read_all(*file, 5'000, 6), "stored");
}

TEST_F(PosixMappingTest, WhatCannotBeMappedIsAnError) {
  expect_error(directory_->map("none"), ErrorCode::io, ENOENT, "none");
  make("empty");
  expect_error(directory_->map("empty"), ErrorCode::io, EINVAL, "empty");
}

TEST_F(PosixMappingTest, PopulatingChangesNothing) {
  std::string text;
  for (int i = 0; text.size() < 100'000; ++i) {
    text += std::to_string(i * 7'919);
  }
  make("ring", text);
  const auto mapping = map("ring");
  mapping->populate();
  EXPECT_EQ(as_text(mapping->bytes()), text);
  EXPECT_EQ(contents_of(root_ / "ring"), text);
}

TEST_F(PosixMappingTest, PopulatingBesideStoresLosesNone) {
  constexpr std::size_t kBytes = 256 * 1024;
  ASSERT_TRUE(make("ring")->allocate(0, kBytes));
  const auto mapping = map("ring");
  std::atomic<bool> is_done{false};
  std::thread populating([&] {
    while (!is_done) {
      mapping->populate();
    }
  });
  const auto bytes = mapping->bytes();
  int lost = 0;
  for (int round = 1; round < 200; ++round) {
    for (std::size_t at = 0; at < kBytes; at += 512) {
      bytes[at] = static_cast<std::byte>(round);
    }
    for (std::size_t at = 0; at < kBytes; at += 512) {
      lost += bytes[at] != static_cast<std::byte>(round) ? 1 : 0;
    }
  }
  is_done = true;
  populating.join();
  EXPECT_EQ(lost, 0);
}

// --- Locks

TEST_F(PosixLockTest, ASecondHandleIsToldWhoHasIt) {
  auto lock = directory_->lock("LOCK", "host a, process 1, since then");
  ASSERT_TRUE(lock) << lock.error().message;
  EXPECT_EQ(contents_of(root_ / "LOCK"), "host a, process 1, since then");
  const auto other_directory = open_directory(root_);
  for (auto* const directory : {directory_.get(), other_directory.get()}) {
    const auto second = directory->lock("LOCK", "another");
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::locked);
    EXPECT_EQ(second.error().message,
              root_.native() +
                  ": this process already uses it (host a, "
                  "process 1, since then); use that handle, or close it first");
  }
  lock->reset();
  ASSERT_TRUE(other_directory->lock("LOCK", "another"));
  EXPECT_EQ(contents_of(root_ / "LOCK"), "another");  // nothing is left of the longer name
  struct stat status = {};
  ASSERT_EQ(::stat((root_ / "LOCK").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0177, 0U);
}

TEST_F(PosixLockTest, AnotherProcessHasItUntilItIsKilled) {
  const Pipe pipe;
  Child holder([&] {
    const auto directory = open_directory(root_);
    const auto lock = directory->lock("LOCK", posix_file_system().holder_description());
    pipe.send(lock ? 1 : 0);
    while (true) {
      ::pause();
    }
    return true;
  });
  ASSERT_EQ(pipe.receive(), 1);
  const auto refused = directory_->lock("LOCK", "me");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::locked);
  const auto& message = refused.error().message;
  EXPECT_TRUE(message.starts_with(root_.native() + ": another process uses it (host ")) << message;
  EXPECT_NE(message.find(", process " + std::to_string(holder.id()) + ", since 2"),
            std::string::npos)
      << message;
  EXPECT_TRUE(message.ends_with("Z); close it there first")) << message;
  holder.kill();
  EXPECT_TRUE(directory_->lock("LOCK", "me"));
}

TEST_F(PosixLockTest, ADestroyedLockIsFreeForAnotherProcess) {
  ASSERT_TRUE(directory_->lock("LOCK", "me"));
  Child child([&] {
    const auto directory = open_directory(root_);
    return directory->lock("LOCK", "the child").has_value();
  });
  EXPECT_EQ(child.exit_status(), 0);
}

TEST_F(PosixLockTest, AHolderOfStrangeBytesIsShownAsText) {
  const auto lock = directory_->lock("LOCK", "a\033[2Jb\n\xff.");
  ASSERT_TRUE(lock);
  const auto refused = directory_->lock("LOCK", "me");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("(a?[2Jb??.)"), std::string::npos)
      << refused.error().message;
}

// --- fork()

TEST_F(PosixForkTest, TheChildsHandlesAnswerClosed) {
  const auto file = make("a", "hello");
  ASSERT_TRUE(make("ring")->allocate(0, 8'192));
  const auto mapping = map("ring");
  auto lock = directory_->lock("LOCK", "me");
  ASSERT_TRUE(lock);
  const auto inner = directory_->subdirectory("inner");
  ASSERT_TRUE(inner);
  const auto generation = fork_generation();

  Child child([&] {
    EXPECT_EQ(fork_generation(), generation + 1);
    const auto expect_closed = [&](const auto& result, std::string_view name) {
      expect_error(result, ErrorCode::closed, 0, name);
      EXPECT_NE(result.error().message.find("this process is a fork of the one that opened the "
                                            "log; open it again here"),
                std::string::npos);
    };
    std::array<std::byte, 8> bytes = {};
    expect_closed(file->read_at(0, bytes), "a");
    expect_closed(file->write_at(0, bytes, {}, false), "a");
    expect_closed(file->write_at(0, bytes, {}, true), "a");
    expect_closed(file->sync(), "a");
    expect_closed(file->allocate(0, 1), "a");
    expect_closed(file->truncate(0), "a");
    expect_closed(file->size(), "a");
    expect_closed(directory_->list(), "");
    expect_closed(directory_->open("a", Access::read, Creation::existing), "");
    expect_closed(directory_->id_of("a"), "");
    expect_closed(directory_->rename("a", "b"), "");
    expect_closed(directory_->remove("a"), "");
    expect_closed(directory_->sync(), "");
    expect_closed(directory_->subdirectory("inner"), "");
    expect_closed(directory_->open_subdirectory("inner"), "");
    expect_closed(directory_->map("ring"), "");
    expect_closed(directory_->lock("LOCK", "the child"), "");
    expect_closed((*inner)->move_to("x", *directory_, "x"), "inner");
    const auto fresh = open_directory(root_);
    expect_closed(fresh->move_to("a", **inner, "a"), "inner");
    EXPECT_TRUE(mapping->bytes().empty());
    mapping->populate();

    const auto still_locked = fresh->lock("LOCK", "the child");
    EXPECT_FALSE(still_locked);
    EXPECT_EQ(still_locked.error().code, ErrorCode::locked);
    EXPECT_NE(still_locked.error().message.find("another process"), std::string::npos);
    lock->reset();
    EXPECT_FALSE(fresh->lock("LOCK", "the child"));
    return true;
  });
  EXPECT_EQ(child.exit_status(), 0);
  EXPECT_EQ(fork_generation(), generation);
  EXPECT_EQ(read_all(*file), "hello");
  EXPECT_EQ(mapping->bytes().size(), 8'192U);
  EXPECT_FALSE(directory_->lock("LOCK", "me"));
}

TEST_F(PosixForkTest, TheChildHasNoDescriptorAndNoMapping) {
  const auto file = make("a", "hello");
  ASSERT_TRUE(make("ring")->allocate(0, 8'192));
  const auto mapping = map("ring");
  const auto lock = directory_->lock("LOCK", "me");
  ASSERT_TRUE(contents_of("/proc/self/maps").find(root_.native()) != std::string::npos);
  Child child([&] {
    for (const auto& descriptor : fs::directory_iterator("/proc/self/fd")) {
      std::error_code ignored;
      const auto target = fs::read_symlink(descriptor.path(), ignored).native();
      EXPECT_FALSE(target.starts_with(root_.native())) << target;
    }
    EXPECT_EQ(contents_of("/proc/self/maps").find(root_.native()), std::string::npos);
    return true;
  });
  EXPECT_EQ(child.exit_status(), 0);
}

TEST_F(PosixForkTest, TheChildsDestructorsTouchNothingOfItsOwn) {
  auto file = make("a", "hello");
  ASSERT_TRUE(make("ring")->allocate(0, 8'192));
  auto mapping = map("ring");
  auto lock = directory_->lock("LOCK", "me");
  ASSERT_TRUE(lock);
  void* const address = mapping->bytes().data();
  Child child([&] {
    // Takes the numbers and the address that the parent's log had.
    std::vector<int> taken;
    for (int i = 0; i < 16; ++i) {
      taken.push_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    }
    EXPECT_EQ(::mmap(address, 8'192, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
              address);
    file.reset();
    mapping.reset();
    lock->reset();
    directory_.reset();
    for (const int fd : taken) {
      EXPECT_NE(::fcntl(fd, F_GETFD), -1) << fd;
    }
    std::memset(address, 1, 8'192);
    return true;
  });
  EXPECT_EQ(child.exit_status(), 0);
}

// Goal: the lock dies with the process that took it, whatever children it leaves.
// Method: a holder forks and is killed; while its child lives, this process takes the lock.
TEST_F(PosixForkTest, TheLockDoesNotOutliveItsHolderInAChild) {
  const Pipe pipe;
  Child holder([&] {
    const auto directory = open_directory(root_);
    const auto lock = directory->lock("LOCK", "the holder");
    const Child grandchild([&] {
      expect_error(directory->list(), ErrorCode::closed, 0, "");
      const bool is_good = lock && !HasFailure();
      pipe.send(is_good ? ::getpid() : -1);
      if (!is_good) {
        return false;
      }
      while (true) {
        ::pause();
      }
      return true;
    });
    while (true) {
      ::pause();
    }
    return true;
  });
  const auto grandchild = static_cast<pid_t>(pipe.receive());
  ASSERT_GT(grandchild, 0);
  EXPECT_FALSE(directory_->lock("LOCK", "me"));
  holder.kill();
  EXPECT_TRUE(directory_->lock("LOCK", "me"));
  EXPECT_EQ(::kill(grandchild, 0), 0) << "it should have lived until now";
  ::kill(grandchild, SIGKILL);
}

TEST_F(PosixForkTest, TheChildOpensAnewAndSoDoesItsChild) {
  make("a", "hello");
  Child child([&] {
    directory_ = open_directory(root_);
    const auto lock = directory_->lock("LOCK", "the child");
    EXPECT_TRUE(lock);
    EXPECT_EQ(read_all(*open("a", Access::read)), "hello");
    Child grandchild([&] {
      expect_error(directory_->list(), ErrorCode::closed, 0, "");
      directory_ = open_directory(root_);
      EXPECT_EQ(read_all(*open("a", Access::read)), "hello");
      return !directory_->lock("LOCK", "the grandchild").has_value();
    });
    EXPECT_EQ(grandchild.exit_status(), 0);
    return true;
  });
  EXPECT_EQ(child.exit_status(), 0);
}

// Goal: no descriptor slips into a child between its opening and its entry into the list.
// Method: threads open and close everything there is while another one forks; each child looks for
// a descriptor or a mapping of the directory.
TEST_F(PosixForkThreadsTest, NothingSlipsIntoAChild) {
  ASSERT_TRUE(make("ring")->allocate(0, 8'192));
  std::atomic<bool> is_done{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&, name = std::to_string(i)] {
      while (!is_done) {
        const auto directory = open_directory(root_);
        const auto lock = directory->lock("LOCK" + name, "me");
        EXPECT_TRUE(lock);
        EXPECT_TRUE(directory->open(name, Access::write_buffered, Creation::replace));
        EXPECT_TRUE(directory->map("ring"));
        EXPECT_TRUE(directory->list());
      }
    });
  }
  for (int forks = 0; forks < 200; ++forks) {
    // Only what is safe after a fork with threads about: no allocation, no streams.
    const pid_t child = ::fork();
    if (child == 0) {
      int found = 0;
      std::array<char, 4'096> target = {};
      for (int fd = 0; fd < 64; ++fd) {
        std::array<char, 32> link = {"/proc/self/fd/"};
        char* digits = link.data() + std::strlen(link.data());
        if (fd >= 10) {
          *digits++ = static_cast<char>('0' + fd / 10);
        }
        *digits = static_cast<char>('0' + fd % 10);
        const auto bytes = ::readlink(link.data(), target.data(), target.size());
        found += bytes > 0 && std::string_view(target.data(), static_cast<std::size_t>(bytes))
                                  .starts_with(root_.native())
                     ? 1
                     : 0;
      }
      ::_exit(found);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  is_done = true;
  for (auto& thread : threads) {
    thread.join();
  }
}

// --- A full disk

/// Mounts a filesystem of `bytes` on `path` that no other process sees. Called in a child.
bool mount_small_disk(const fs::path& path, std::size_t bytes) {
  const auto user = ::geteuid();
  const auto group = ::getegid();
  if (user != 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) {
      return false;
    }
    std::ofstream("/proc/self/setgroups") << "deny";
    std::ofstream("/proc/self/uid_map") << "0 " << user << " 1";
    std::ofstream("/proc/self/gid_map") << "0 " << group << " 1";
  } else if (::unshare(CLONE_NEWNS) != 0) {
    return false;
  }
  const auto options = "size=" + std::to_string(bytes);
  return ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("tmpfs", path.c_str(), "tmpfs", 0, options.c_str()) == 0;
}

constexpr int kCannotMount = 77;

TEST_F(PosixFullDiskTest, AllocationsAndWritesAnswerNoSpaceAndKeepTheSize) {
  Child child([&] {
    if (!mount_small_disk(root_, 1 << 20)) {
      ::_exit(kCannotMount);
    }
    directory_ = open_directory(root_);
    EXPECT_EQ(directory_->traits().file_system_name, "tmpfs");
    const auto file = make("a");
    EXPECT_TRUE(file->allocate(0, 64 * 1024));
    expect_error(file->allocate(0, 2 << 20), ErrorCode::no_space, ENOSPC, "a");
    EXPECT_EQ(file->size(), 64U * 1024);
    expect_error(write(*file, 0, std::string(2 << 20, 'x')), ErrorCode::no_space, ENOSPC, "a");

    // The lock needs no room.
    const auto lock = directory_->lock("LOCK", "me");
    EXPECT_TRUE(lock) << lock.error().message;
    EXPECT_FALSE(directory_->lock("LOCK", "another"));

    // And all works again when there is some.
    EXPECT_TRUE(file->truncate(0));
    EXPECT_TRUE(write(*file, 0, "hello"));
    return true;
  });
  const int status = child.exit_status();
  if (WIFEXITED(status) && WEXITSTATUS(status) == kCannotMount) {
    GTEST_SKIP() << "a small filesystem cannot be mounted here";
  }
  EXPECT_EQ(status, 0);
}

// --- The rest

TEST(PosixFileSystemTraitsTest, IsOneForTheProcess) {
  EXPECT_EQ(&posix_file_system(), &posix_file_system());
}

TEST(PosixFileSystemTraitsTest, TheClockIsTheWallClock) {
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count();
  EXPECT_NEAR(static_cast<double>(posix_file_system().now_ms()), static_cast<double>(now), 1'000);
}

TEST(PosixFileSystemTraitsTest, RandomBitsDiffer) {
  std::set<std::uint64_t> drawn;
  for (int i = 0; i < 1'000; ++i) {
    drawn.insert(posix_file_system().random_bits());
  }
  EXPECT_EQ(drawn.size(), 1'000U);
}

TEST(PosixFileSystemTraitsTest, TheHolderIsDescribed) {
  const auto holder = posix_file_system().holder_description();
  EXPECT_TRUE(holder.starts_with("host ")) << holder;
  EXPECT_NE(holder.find(", process " + std::to_string(::getpid()) + ", since 20"),
            std::string::npos)
      << holder;
  auto shape = holder.substr(holder.find(", since "));
  std::ranges::replace_if(shape, [](char c) { return c >= '0' && c <= '9'; }, '0');
  EXPECT_EQ(shape, ", since 0000-00-00T00:00:00Z") << holder;
}

}  // namespace
}  // namespace nori::io
