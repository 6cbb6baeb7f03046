#include "tests/power/loop_disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sched.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace nori::power_tests {
namespace {

constexpr std::uint64_t kShelfBytes = 8ULL << 30;  // of which only what is written takes space
constexpr std::uint64_t kMemoryBytesFreeMin = 2ULL << 30;
constexpr int kLoopBlockBytes = 4096;

constexpr FileSystemKind kShelfKind{"xfs", "-q -f -s size=4096 -m reflink=1", kShelfBytes};

std::unexpected<std::string> failed(const std::string& what) {
  return std::unexpected(
      fmt::format("{}: {}", what, std::generic_category().message(std::exchange(errno, 0))));
}

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (value_ >= 0) {
      ::close(value_);
    }
  }
  [[nodiscard]] int get() const { return value_; }
  [[nodiscard]] bool is_open() const { return value_ >= 0; }

 private:
  int value_;
};

struct Loop {
  std::string device;
  Descriptor open;  // the device is free again when it is closed, and unmounted
};

Made<Loop> attach(const std::string& path) {
  const Descriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!file.is_open()) {
    return failed(path);
  }
  const Descriptor control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control.is_open()) {
    return failed("/dev/loop-control");
  }
  for (;;) {
    const auto number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) {
      return failed("a free loop device");
    }
    const auto device = fmt::format("/dev/loop{}", number);
    Descriptor loop(::open(device.c_str(), O_RDWR | O_CLOEXEC));
    if (!loop.is_open()) {
      return failed(device);
    }
    loop_config config{};
    config.fd = static_cast<std::uint32_t>(file.get());
    config.block_size = kLoopBlockBytes;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
    if (::ioctl(loop.get(), LOOP_CONFIGURE, &config) == 0) {
      return Loop{.device = device, .open = std::move(loop)};
    }
    if (errno != EBUSY) {  // somebody else was quicker
      return failed(device);
    }
  }
}

Made<void> run(const std::string& command) {
  std::vector<std::string> words;
  std::istringstream in(command);
  for (std::string word; in >> word;) {
    words.push_back(word);
  }
  std::vector<char*> arguments;
  for (auto& word : words) {
    arguments.push_back(word.data());
  }
  arguments.push_back(nullptr);
  // Where these programs are need not be in a user's PATH.
  std::string path = "PATH=/usr/sbin:/sbin:/usr/bin:/bin";
  std::array<char*, 2> environment = {path.data(), nullptr};
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t process = -1;
  int error = ENOENT;
  for (const auto* folder : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"}) {
    const auto program = folder + words.front();
    if (::access(program.c_str(), X_OK) == 0) {
      error = ::posix_spawn(&process, program.c_str(), &actions, nullptr, arguments.data(),
                            environment.data());
      break;
    }
  }
  ::posix_spawn_file_actions_destroy(&actions);
  int status = 0;
  if (error != 0 || ::waitpid(process, &status, 0) != process) {
    errno = error != 0 ? error : errno;
    return failed(words.front());
  }
  if (status != 0) {
    return std::unexpected(fmt::format("{}: ended with wait status {}", command, status));
  }
  return {};
}

// Memory is quicker than a disk, and it is the filesystem in it that is tested here.
std::filesystem::path folder_for_files() {
  struct statvfs memory{};
  if (::statvfs("/dev/shm", &memory) == 0 && ::access("/dev/shm", W_OK) == 0 &&
      memory.f_bavail * memory.f_bsize >= kMemoryBytesFreeMin) {
    return "/dev/shm";
  }
  return std::filesystem::current_path();
}

// From now on nobody else sees this process's mounts, and they end with it.
Made<void> have_mounts_of_our_own() {
  static bool done = false;
  if (!done) {
    if (::unshare(CLONE_NEWNS) != 0) {
      return failed("mounts of this process's own");
    }
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      return failed("mounts of this process's own");
    }
    done = true;
  }
  return {};
}

Made<void> mount_file(const FileSystemKind& kind, const std::string& path,
                      const std::filesystem::path& at) {
  const auto loop = attach(path);
  if (!loop) {
    return std::unexpected(loop.error());
  }
  if (::mount(loop->device.c_str(), at.c_str(), kind.name, MS_NOATIME, nullptr) != 0) {
    return failed(fmt::format("mounting {}", kind.name));
  }
  return {};
}

}  // namespace

Mount::~Mount() {
  // Somebody may just be closing a file.
  for (int tries = 0; tries < 100; ++tries) {
    if (::umount2(path_.c_str(), 0) == 0 || errno != EBUSY) {
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ::umount2(path_.c_str(), MNT_DETACH);
}

Made<std::unique_ptr<Shelf>> Shelf::make() {
  if (auto own = have_mounts_of_our_own(); !own) {
    return std::unexpected(own.error());
  }
  auto folder = (std::filesystem::current_path() / "power-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) {
    return failed(folder);
  }
  std::unique_ptr<Shelf> shelf(new Shelf(folder));
  std::error_code ignored;
  std::filesystem::create_directory(shelf->folder_ / "files", ignored);

  // Without a name, so that nobody has to remove it.
  const Descriptor image(::open(folder_for_files().c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!image.is_open() || ::ftruncate(image.get(), static_cast<off_t>(kShelfBytes)) != 0) {
    return failed("a file without a name in " + folder_for_files().string());
  }
  const auto path = fmt::format("/proc/{}/fd/{}", ::getpid(), image.get());
  auto made = run(fmt::format("mkfs.{} {} {}", kShelfKind.name, kShelfKind.options, path));
  if (made) {
    made = mount_file(kShelfKind, path, shelf->folder_ / "files");
  }
  if (!made) {
    return std::unexpected(made.error());
  }
  shelf->files_.reset(new Mount(shelf->folder_ / "files"));
  return shelf;
}

Shelf::~Shelf() {
  files_.reset();
  std::error_code ignored;
  // Folders only: never through a mount that would not go.
  for (const auto& entry : std::filesystem::directory_iterator(folder_, ignored)) {
    ::rmdir(entry.path().c_str());
  }
  ::rmdir(folder_.c_str());
}

std::string Shelf::missing_for(const FileSystemKind& kind) {
  if (auto made = make_file_system(kind, "probe", kind.bytes_min); !made) {
    return made.error();
  }
  const auto mounted = mount(kind, "probe", "probe");
  remove("probe");
  return mounted ? "" : mounted.error();
}

Made<void> Shelf::make_file_system(const FileSystemKind& kind, const std::string& name,
                                   std::uint64_t bytes) {
  {
    const Descriptor made(::open(file(name).c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!made.is_open() || ::ftruncate(made.get(), static_cast<off_t>(bytes)) != 0) {
      return failed(file(name));
    }
  }
  return run(fmt::format("mkfs.{} {} {}", kind.name, kind.options, file(name).string()));
}

Made<std::unique_ptr<Mount>> Shelf::mount(const FileSystemKind& kind, const std::string& name,
                                          const std::string& at) {
  const auto folder = folder_ / at;
  std::error_code ignored;
  std::filesystem::create_directory(folder, ignored);
  if (auto mounted = mount_file(kind, file(name), folder); !mounted) {
    return std::unexpected(mounted.error());
  }
  return std::unique_ptr<Mount>(new Mount(folder));
}

Made<void> Shelf::clone(const std::string& name, const std::string& copy) {
  const Descriptor from(::open(file(name).c_str(), O_RDONLY | O_CLOEXEC));
  const Descriptor to(::open(file(copy).c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!from.is_open() || !to.is_open() || ::ioctl(to.get(), FICLONE, from.get()) != 0) {
    return failed("cloning " + file(name).string());
  }
  return {};
}

void Shelf::remove(const std::string& name) { ::unlink(file(name).c_str()); }

std::filesystem::path Shelf::keep(const std::string& name, const std::string& as) {
  auto kept = std::filesystem::current_path() / as;
  static_cast<void>(
      run(fmt::format("cp --sparse=always {} {}", file(name).string(), kept.string())));
  return kept;
}

}  // namespace nori::power_tests
