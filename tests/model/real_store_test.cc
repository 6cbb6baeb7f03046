// A store on the machine's own disk.

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <new>
#include <random>
#include <string>
#include <thread>

#include "nori/store.h"

namespace nori::model_tests {
namespace {

// Removed in the end.
class OnDisk {
 public:
  OnDisk() {
    std::string name = (std::filesystem::current_path() / "store-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      throw std::filesystem::filesystem_error("mkdtemp", name,
                                              std::error_code(errno, std::generic_category()));
    }
    path_ = name;
  }
  OnDisk(const OnDisk&) = delete;
  OnDisk& operator=(const OnDisk&) = delete;
  ~OnDisk() { std::filesystem::remove_all(path_); }

  [[nodiscard]] StoreOptions options() const {
    StoreOptions options;
    options.wal.directory = path_ / "store";
    options.wal.fsync = FsyncPolicy::os();
    options.wal.segment_bytes = kMiB;
    options.checkpoints.log_bytes_min = 200'000;
    return options;
  }

 private:
  std::filesystem::path path_;
};

// What the killed process has been told is written.
struct Shared {
  std::atomic<std::uint64_t> written{0};
};

[[noreturn]] void write_until_killed(const StoreOptions& options, Shared& shared) {
  auto opened = Store::open(options);
  if (!opened) {
    ::_exit(1);
  }
  for (auto number = shared.written.load();; ++number) {
    Batch batch;
    batch.put("number", std::to_string(number));
    batch.put("key/" + std::to_string(number % 300), std::to_string(number));
    batch.remove("key/" + std::to_string((number + 150) % 300));
    if (!opened->store.write(batch)) {
      ::_exit(1);
    }
    shared.written = number + 1;
    if (number % 1500 == 1499 && !opened->store.compact()) {
      ::_exit(1);
    }
  }
}

TEST(StoreKillTest, LosesNothingThatWasWritten) {
  const OnDisk disk;
  auto* const memory =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  auto& shared = *new (memory) Shared;
  std::mt19937 random(std::random_device{}());
  for (int kill = 0; kill < 25; ++kill) {
    const auto process = ::fork();
    if (process == 0) {
      write_until_killed(disk.options(), shared);
    }
    const auto before = shared.written.load();
    for (int i = 0; i < 20'000 && shared.written == before; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // until it has opened the store
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 40));
    ::kill(process, SIGKILL);
    int status = 0;
    ::waitpid(process, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer failed";
    ASSERT_GT(shared.written, before);
    auto options = disk.options();
    options.wal.mode = OpenMode::read_only;
    const auto opened = Store::open(options);
    ASSERT_TRUE(opened) << opened.error().message;
    const auto& store = opened->store;
    const auto last = std::stoull(std::string((*store.get("number"))->value()));
    ASSERT_GE(last + 1, shared.written) << "was written, and is lost";
    ASSERT_LE(last, shared.written);
    for (std::uint64_t back = 0; back < std::min<std::uint64_t>(last + 1, 150); ++back) {
      const auto found = *store.get("key/" + std::to_string((last - back) % 300));
      ASSERT_TRUE(found);
      ASSERT_EQ(found->value(), std::to_string(last - back));
      ASSERT_FALSE(*store.contains("key/" + std::to_string((last - back + 150) % 300)));
    }
    shared.written = last + 1;
  }
  ::munmap(memory, sizeof(Shared));
}

TEST(StoreHugeNoAsanTest, AValueOfAGibibyte) {
  const OnDisk disk;
  std::string value(kGiB, '\0');
  for (std::size_t at = 0; at < value.size(); at += 4096) {
    value[at] = static_cast<char>(at >> 12);
  }
  auto options = disk.options();
  {
    auto opened = Store::open(options);
    ASSERT_TRUE(opened) << opened.error().message;
    const auto put = opened->store.put("huge", value);
    ASSERT_TRUE(put) << put.error().message;
    ASSERT_TRUE(opened->store.put("small", "1"));
    ASSERT_TRUE((*opened->store.get("huge"))->value() == value);
    ASSERT_TRUE(opened->store.close());
  }
  auto opened = Store::open(options);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_TRUE((*opened->store.get("huge"))->value() == value);
  const auto compacted = opened->store.compact();
  ASSERT_TRUE(compacted) << compacted.error().message;
  opened = Store::open([&] {
    options.wal.mode = OpenMode::read_only;
    return options;
  }());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_TRUE((*opened->store.get("huge"))->value() == value);
  EXPECT_EQ(opened->recovery.records_replayed, 0U);
}

}  // namespace
}  // namespace nori::model_tests
