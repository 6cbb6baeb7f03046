#include "testing/simulated_disk.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

#include "base/try.h"
#include "testing/random.h"

namespace nori::testing {

namespace {

/// 0: no inode.
using InodeNumber = std::uint64_t;
constexpr InodeNumber kRoot = 1;
constexpr std::uint64_t kDevice = 1;

/// Names of one directory entry that a power cut may go back to.
constexpr std::size_t kNameChangesMax = 8;
/// Pages of each mapping that the kernel writes back at a time.
constexpr std::uint64_t kWriteBackPagesMax = 16;

/// A name in a directory: what it leads to durably, and ever since.
struct Name {
  struct Change {
    std::uint64_t stamp;
    InodeNumber inode;
  };
  InodeNumber durable = 0;
  std::vector<Change> changes;  ///< Oldest first.

  [[nodiscard]] InodeNumber current() const noexcept {
    return changes.empty() ? durable : changes.back().inode;
  }
};

using Names = std::map<std::string, Name, std::less<>>;

struct ByteRange {
  std::uint64_t begin;
  std::uint64_t end;
  [[nodiscard]] bool overlaps(std::uint64_t other_begin, std::uint64_t other_end) const noexcept {
    return begin < other_end && other_begin < end;
  }
};

/// A file or directory, whatever its names.
struct Inode {
  explicit Inode(InodeNumber inode_number, bool directory, std::uint64_t sector_bytes)
      : number(inode_number), is_directory(directory), contents(sector_bytes) {}

  InodeNumber number;
  bool is_directory;
  FileContents contents;              ///< Of a file.
  std::vector<ByteRange> unreadable;  ///< Of a file.
  Names names;                        ///< Of a directory.

  std::string name;    ///< The last it was given.
  unsigned links = 0;  ///< Names that lead to it now.
  unsigned handles = 0;
  /// It has had a durable name, so it may not lose all of them unless it is removed.
  bool was_durable = false;
  bool written_direct = false;
  bool written_buffered = false;
};
using InodeRef = std::shared_ptr<Inode>;

/// A write that waits for its latency to pass. Lives on the stack of the thread that writes.
struct WriteInFlight {
  Inode* inode;
  io::Access access;
  std::uint64_t offset;
  ByteView bytes;
  /// A crash has decided what becomes of it.
  bool settled = false;
};

Error system_error(int system_errno, std::string_view operation, std::string_view path,
                   std::string_view detail = {}) {
  auto code = ErrorCode::io;
  if (system_errno == ENOSPC || system_errno == EDQUOT) {
    code = ErrorCode::no_space;
  } else if (system_errno == EACCES || system_errno == EPERM) {
    code = ErrorCode::permission;
  }
  std::string message(operation);
  message.append(" ").append(path).append(": ");
  message.append(std::generic_category().message(system_errno));
  if (!detail.empty()) {
    message.append(" (").append(detail).append(")");
  }
  return {.code = code, .message = std::move(message), .system_errno = system_errno};
}

std::string range_text(std::uint64_t offset, std::uint64_t bytes) {
  return std::to_string(offset) + "+" + std::to_string(bytes);
}

std::vector<std::string> components_of(const std::filesystem::path& path) {
  std::vector<std::string> components;
  for (const auto& component : path.lexically_normal()) {
    auto text = component.string();
    if (!text.empty() && text != "/" && text != ".") {
      components.push_back(std::move(text));
    }
  }
  return components;
}

/// Where a handle comes from, and what to call it in messages.
struct HandleOrigin {
  std::uint64_t process;
  std::filesystem::path path;
};

}  // namespace

/// Everything behind the disk's mutex, shared by the disk and its handles.
class SimulatedDisk::State final : public std::enable_shared_from_this<State> {
 public:
  explicit State(SimulatedDiskOptions options)
      : options_(std::move(options)), faults_random_(options_.seed), bits_(~options_.seed) {
    inodes_[kRoot] = std::make_shared<Inode>(kRoot, true, options_.sector_bytes);
  }

  // Files

  Result<std::size_t> read_at(const HandleOrigin& origin, Inode& inode, std::uint64_t offset,
                              ByteSpan into);
  Result<void> write_at(const HandleOrigin& origin, Inode& inode, io::Access access,
                        std::uint64_t offset, ByteView first, ByteView second, bool durable);
  Result<void> sync(const HandleOrigin& origin, Inode& inode);
  Result<void> allocate(const HandleOrigin& origin, Inode& inode, std::uint64_t offset,
                        std::uint64_t bytes);
  Result<void> truncate(const HandleOrigin& origin, Inode& inode, std::uint64_t bytes);
  Result<io::FileStatus> status(const HandleOrigin& origin, const Inode& inode);

  void close(const HandleOrigin& origin, Inode& inode) noexcept;
  void unmap(const HandleOrigin& origin, Inode& inode, std::shared_ptr<MappedMemory>& memory);
  void unlock(const HandleOrigin& origin, InodeNumber inode) noexcept;

  // Directories

  Result<std::unique_ptr<io::Directory>> open_directory(const std::filesystem::path& path,
                                                        bool create);
  Result<std::vector<std::string>> list(const HandleOrigin& origin, const Inode& directory);
  Result<std::unique_ptr<io::File>> open(const HandleOrigin& origin, Inode& directory,
                                         std::string_view name, io::Access access,
                                         io::Creation creation, std::uint64_t direct_alignment);
  Result<io::FileId> id_of(const HandleOrigin& origin, const Inode& directory,
                           std::string_view name);
  Result<void> rename(const HandleOrigin& origin, Inode& from_directory, std::string_view from,
                      const HandleOrigin& to_origin, Inode& to_directory, std::string_view to);
  Result<void> remove(const HandleOrigin& origin, Inode& directory, std::string_view name);
  Result<void> sync_directory(const HandleOrigin& origin, Inode& directory);
  Result<std::unique_ptr<io::Directory>> subdirectory(const HandleOrigin& origin, Inode& directory,
                                                      std::string_view name, bool may_make);
  Result<std::unique_ptr<io::Mapping>> map(const HandleOrigin& origin, Inode& directory,
                                           std::string_view name);
  Result<std::unique_ptr<io::Lock>> lock(const HandleOrigin& origin, Inode& directory,
                                         std::string_view name, std::string_view holder);

  // Crashes

  void crash_process();
  void power_cut(std::uint64_t seed, const PowerCutOptions& options);
  std::shared_ptr<State> clone() const;

  // Damage

  Result<void> flip_bit(std::string_view path, std::uint64_t offset, unsigned bit);
  Result<std::vector<std::byte>> read_file(std::string_view path) const;
  Result<void> write_file(std::string_view path, ByteView bytes);
  Result<void> remove_file(std::string_view path);
  Result<void> swap_files(std::string_view one, std::string_view other);
  Result<std::vector<std::string>> list_files(std::string_view directory) const;
  Result<void> make_unreadable(std::string_view path, std::uint64_t offset, std::uint64_t bytes);
  void forget_dropped_pages();
  void writeback();

  [[nodiscard]] std::uint64_t free_bytes() const;
  [[nodiscard]] std::uint64_t free_bytes_for(const HandleOrigin& origin) const;

  mutable std::mutex mutex_;
  SimulatedDiskOptions options_;

  // Guarded by mutex_, from here on.

  Random faults_random_;  ///< Draws what faults and crashes do.
  Random bits_;           ///< Draws what the program asks for, whatever faults there are.
  std::uint64_t now_ms_ = 1'700'000'000'000;
  std::uint64_t boot_ms_ = now_ms_;

  FaultPlan faults_;
  std::optional<std::uint64_t> operations_left_;  ///< Until crash_after() strikes.
  bool dead_ = false;
  std::uint64_t operations_ = 0;
  std::uint64_t process_ = 1;

  std::uint64_t capacity_bytes_ = kUnlimited;
  bool writes_hit_no_space_ = false;
  std::shared_ptr<const std::function<std::chrono::microseconds(Operation)>> latency_;

  bool mixed_io_seen_ = false;
  bool overlapping_writes_seen_ = false;
  bool mapped_holes_seen_ = false;
  std::uint64_t durable_bytes_changed_ = 0;

  bool tracing_ = false;
  std::vector<std::string> trace_;

 private:
  enum class End : std::uint8_t { completes, fails, dies };

  /// What becomes of an operation.
  struct Fate {
    End end = End::completes;
    bool takes_effect = true;
    bool drops_pages = false;
    std::optional<Error> error = std::nullopt;

    [[nodiscard]] Result<void> result() {
      if (error) {
        return std::unexpected(*std::move(error));
      }
      return {};
    }
  };

  using Guard = std::unique_lock<std::mutex>;

  Result<void> check_alive(const HandleOrigin& origin) const;
  /// Checks, waits for the operation's latency without the mutex, and checks again.
  Result<void> enter(Guard& guard, const HandleOrigin& origin, Operation operation);
  void pause(Guard& guard, Operation operation) const;
  /// Counts the operation and decides what becomes of it.
  Fate decide(Operation operation, const HandleOrigin& origin, std::string_view name);
  template <typename... Parts>
  void note(const Parts&... parts) {
    if (tracing_) {
      trace_.emplace_back();
      (trace_.back().append(parts), ...);
    }
  }

  Inode& make_inode(bool directory);
  [[nodiscard]] Inode* look_up(const Inode& directory, std::string_view name) const;
  void set_name(Inode& directory, std::string_view name, InodeNumber inode);
  void settle_names(Inode& directory, std::uint64_t stamp);
  void collect();
  void reach(const Inode& inode, std::set<InodeNumber>& reached) const;
  [[nodiscard]] std::set<InodeNumber> reached_now() const;
  void recount_links();
  [[nodiscard]] bool restore_names(
      const std::map<InodeNumber, std::pair<InodeNumber, std::string>>& names_before);

  void write_now(Inode& inode, io::Access access, std::uint64_t offset, ByteView bytes);
  void write_and_fail(Inode& inode, io::Access access, std::uint64_t offset, ByteView left);
  void settle_write(WriteInFlight& write);
  [[nodiscard]] std::uint64_t prefix_in_sectors(std::uint64_t offset, std::uint64_t bytes);
  [[nodiscard]] std::uint64_t prefix_with_room(std::uint64_t offset, std::uint64_t bytes);
  void note_access(Inode& inode, io::Access access);
  [[nodiscard]] bool fits(const Inode& inode, std::uint64_t offset, std::uint64_t bytes) const;
  void end_process();

  /// Directory and last name of the path; the directory is null if it is missing.
  [[nodiscard]] std::pair<Inode*, std::string> locate(std::string_view path) const;
  [[nodiscard]] Result<Inode*> find_file(std::string_view path) const;

  std::unique_ptr<io::Directory> make_directory_handle(Inode& inode, HandleOrigin origin);
  [[nodiscard]] InodeRef ref(const Inode& inode) const { return inodes_.at(inode.number); }

  std::map<InodeNumber, InodeRef> inodes_;
  InodeNumber inode_last_ = kRoot;
  std::uint64_t name_stamp_ = 0;
  std::map<InodeNumber, std::string> locks_;  ///< By whom each is held.
  std::vector<WriteInFlight*> writes_in_flight_;
};

using State = SimulatedDisk::State;

// --- Handles

namespace {

class SimulatedFile final : public io::File {
 public:
  SimulatedFile(std::shared_ptr<State> disk, InodeRef inode, HandleOrigin origin, io::Access access,
                std::uint64_t direct_alignment)
      : disk_(std::move(disk)),
        inode_(std::move(inode)),
        origin_(std::move(origin)),
        access_(access),
        direct_alignment_(direct_alignment) {}
  ~SimulatedFile() override { disk_->close(origin_, *inode_); }

  Result<std::size_t> read_at(std::uint64_t offset, ByteSpan into) override {
    NORI_TRY(check_aligned("read", offset, into));
    return disk_->read_at(origin_, *inode_, offset, into);
  }

  Result<void> write_at(std::uint64_t offset, ByteView first, ByteView second,
                        bool durable) override {
    NORI_TRY(check_writable("write"));
    NORI_TRY(check_aligned("write", offset, first));
    NORI_TRY(check_aligned("write", offset, second));
    return disk_->write_at(origin_, *inode_, access_, offset, first, second, durable);
  }

  Result<void> sync() override { return disk_->sync(origin_, *inode_); }

  Result<void> allocate(std::uint64_t offset, std::uint64_t bytes) override {
    NORI_TRY(check_writable("allocate"));
    return disk_->allocate(origin_, *inode_, offset, bytes);
  }

  Result<void> truncate(std::uint64_t bytes) override {
    NORI_TRY(check_writable("truncate"));
    return disk_->truncate(origin_, *inode_, bytes);
  }

  Result<io::FileStatus> status() override { return disk_->status(origin_, *inode_); }

  io::FileId id() const override { return {kDevice, inode_->number}; }

 private:
  Result<void> check_writable(std::string_view operation) const {
    if (access_ == io::Access::read) {
      return std::unexpected(
          system_error(EBADF, operation, origin_.path.native(), "opened for reading"));
    }
    return {};
  }

  Result<void> check_aligned(std::string_view operation, std::uint64_t offset,
                             ByteView memory) const {
    const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    if (access_ == io::Access::write_direct && !memory.empty() &&
        (offset | memory.size() | address) % direct_alignment_ != 0) {
      return std::unexpected(
          system_error(EINVAL, operation, origin_.path.native(), "direct, but not aligned"));
    }
    return {};
  }

  std::shared_ptr<State> disk_;
  InodeRef inode_;
  HandleOrigin origin_;
  io::Access access_;
  std::uint64_t direct_alignment_;
};

class SimulatedMapping final : public io::Mapping {
 public:
  SimulatedMapping(std::shared_ptr<State> disk, InodeRef inode, HandleOrigin origin,
                   std::shared_ptr<MappedMemory> memory)
      : disk_(std::move(disk)),
        inode_(std::move(inode)),
        origin_(std::move(origin)),
        memory_(std::move(memory)) {}
  ~SimulatedMapping() override { disk_->unmap(origin_, *inode_, memory_); }

  ByteSpan bytes() const override { return memory_->bytes(); }
  void populate() override {}

 private:
  std::shared_ptr<State> disk_;
  InodeRef inode_;
  HandleOrigin origin_;
  std::shared_ptr<MappedMemory> memory_;
};

class SimulatedLock final : public io::Lock {
 public:
  SimulatedLock(std::shared_ptr<State> disk, HandleOrigin origin, InodeNumber inode)
      : disk_(std::move(disk)), origin_(std::move(origin)), inode_(inode) {}
  ~SimulatedLock() override { disk_->unlock(origin_, inode_); }

 private:
  std::shared_ptr<State> disk_;
  HandleOrigin origin_;
  InodeNumber inode_;
};

class SimulatedDirectory final : public io::Directory {
 public:
  SimulatedDirectory(std::shared_ptr<State> disk, InodeRef inode, HandleOrigin origin,
                     io::DirectoryTraits traits)
      : disk_(std::move(disk)),
        inode_(std::move(inode)),
        origin_(std::move(origin)),
        traits_(std::move(traits)) {}
  ~SimulatedDirectory() override { disk_->close(origin_, *inode_); }

  Result<std::vector<std::string>> list() override { return disk_->list(origin_, *inode_); }
  Result<std::unique_ptr<io::File>> open(std::string_view name, io::Access access,
                                         io::Creation creation) override {
    return disk_->open(origin_, *inode_, name, access, creation, traits_.direct_alignment);
  }
  Result<io::FileId> id_of(std::string_view name) override {
    return disk_->id_of(origin_, *inode_, name);
  }
  Result<void> rename(std::string_view from, std::string_view to) override {
    return disk_->rename(origin_, *inode_, from, origin_, *inode_, to);
  }
  Result<void> move_to(std::string_view name, io::Directory& into,
                       std::string_view new_name) override {
    auto* const target = dynamic_cast<SimulatedDirectory*>(&into);
    if (target == nullptr || target->disk_ != disk_) {
      return std::unexpected(system_error(EXDEV, "rename", origin_.path.native()));
    }
    return disk_->rename(origin_, *inode_, name, target->origin_, *target->inode_, new_name);
  }
  Result<void> remove(std::string_view name) override {
    return disk_->remove(origin_, *inode_, name);
  }
  Result<void> sync() override { return disk_->sync_directory(origin_, *inode_); }
  Result<void> check_owner(const std::vector<std::string>& /*names*/) override { return {}; }
  Result<std::unique_ptr<io::Directory>> subdirectory(std::string_view name) override {
    return disk_->subdirectory(origin_, *inode_, name, true);
  }
  Result<std::unique_ptr<io::Directory>> open_subdirectory(std::string_view name) override {
    return disk_->subdirectory(origin_, *inode_, name, false);
  }
  Result<std::unique_ptr<io::Mapping>> map(std::string_view name) override {
    return disk_->map(origin_, *inode_, name);
  }
  Result<std::unique_ptr<io::Lock>> lock(std::string_view name, std::string_view holder) override {
    return disk_->lock(origin_, *inode_, name, holder);
  }
  std::uint64_t free_bytes() override { return disk_->free_bytes_for(origin_); }
  const io::DirectoryTraits& traits() const override { return traits_; }
  const std::filesystem::path& path() const override { return origin_.path; }

 private:
  std::shared_ptr<State> disk_;
  InodeRef inode_;
  HandleOrigin origin_;
  io::DirectoryTraits traits_;
};

}  // namespace

// --- What every operation passes through

Result<void> State::check_alive(const HandleOrigin& origin) const {
  if (origin.process != process_) {
    return std::unexpected(Error{.code = ErrorCode::io,
                                 .message = origin.path.native() + ": process crashed",
                                 .system_errno = EIO});
  }
  if (dead_) {
    return std::unexpected(Error{.code = ErrorCode::io,
                                 .message = origin.path.native() + ": the disk is dead",
                                 .system_errno = EIO});
  }
  return {};
}

void State::pause(Guard& guard, Operation operation) const {
  if (const auto latency = latency_; latency != nullptr) {
    guard.unlock();
    if (const auto duration = (*latency)(operation); duration.count() > 0) {
      std::this_thread::sleep_for(duration);
    } else {
      std::this_thread::yield();
    }
    guard.lock();
  }
}

Result<void> State::enter(Guard& guard, const HandleOrigin& origin, Operation operation) {
  NORI_TRY(check_alive(origin));
  if (latency_ != nullptr) {
    pause(guard, operation);
    return check_alive(origin);
  }
  return {};
}

State::Fate State::decide(Operation operation, const HandleOrigin& origin, std::string_view name) {
  Fate fate;
  if (changes_the_disk(operation)) {
    ++operations_;
    if (operations_left_ && (*operations_left_)-- == 0) {
      operations_left_.reset();
      dead_ = true;
      note("  the disk dies here");
      fate.end = End::dies;
      fate.takes_effect = faults_random_.coin();
      fate.error = Error{.code = ErrorCode::io,
                         .message = origin.path.native() + ": the disk died",
                         .system_errno = EIO};
      return fate;
    }
    if (options_.operations_per_write_back != 0 &&
        faults_random_.below(options_.operations_per_write_back) == 0) {
      for (const auto& [number, inode] : inodes_) {
        inode->contents.write_back(kWriteBackPagesMax, faults_random_);
      }
    }
  }
  if (const auto fault = faults_.strike(operation, name)) {
    note("  ", operation_name(operation),
         " fails: ", std::generic_category().message(fault->system_errno));
    fate.end = End::fails;
    // A fault on `durable_write` alone is one of its flush.
    fate.takes_effect =
        operation == Operation::durable_write && !fault->operations.contains(Operation::write);
    fate.drops_pages = fault->drops_pages;
    fate.error = system_error(fault->system_errno, operation_name(operation), origin.path.native(),
                              "injected");
  }
  return fate;
}

// --- Names

Inode& State::make_inode(bool directory) {
  const auto number = ++inode_last_;
  auto& inode = inodes_[number];
  inode = std::make_shared<Inode>(number, directory, options_.sector_bytes);
  return *inode;
}

Inode* State::look_up(const Inode& directory, std::string_view name) const {
  const auto found = directory.names.find(name);
  if (found == directory.names.end() || found->second.current() == 0) {
    return nullptr;
  }
  return inodes_.at(found->second.current()).get();
}

void State::set_name(Inode& directory, std::string_view name, InodeNumber inode) {
  auto& entry = directory.names.try_emplace(std::string(name)).first->second;
  if (const auto replaced = entry.current(); replaced != 0) {
    --inodes_.at(replaced)->links;
  }
  if (inode != 0) {
    auto& named = *inodes_.at(inode);
    ++named.links;
    named.name = name;
  }
  ++name_stamp_;
  if (entry.changes.size() == kNameChangesMax) {
    const auto forgotten = faults_random_.below(kNameChangesMax - 1);
    entry.changes.erase(entry.changes.begin() + static_cast<std::ptrdiff_t>(forgotten));
  }
  entry.changes.push_back({name_stamp_, inode});
}

/// The names as they were at `stamp` become durable.
void State::settle_names(Inode& directory, std::uint64_t stamp) {
  for (auto& [text, name] : directory.names) {
    auto change = name.changes.begin();
    for (; change != name.changes.end() && change->stamp <= stamp; ++change) {
      name.durable = change->inode;
    }
    name.changes.erase(name.changes.begin(), change);
    if (name.durable != 0) {
      inodes_.at(name.durable)->was_durable = true;
    }
  }
  std::erase_if(directory.names, [](const auto& item) {
    return item.second.durable == 0 && item.second.changes.empty();
  });
}

void State::reach(const Inode& inode, std::set<InodeNumber>& reached) const {
  const auto go_to = [&](InodeNumber number) {
    if (number != 0 && reached.insert(number).second) {
      reach(*inodes_.at(number), reached);
    }
  };
  for (const auto& [text, name] : inode.names) {
    go_to(name.durable);
    for (const auto& change : name.changes) {
      go_to(change.inode);
    }
  }
}

/// Forgets files that nobody holds and no name leads to, now or after a power cut.
void State::collect() {
  std::set<InodeNumber> reached{kRoot};
  reach(*inodes_.at(kRoot), reached);
  for (const auto& [number, inode] : inodes_) {
    if (inode->handles > 0 && reached.insert(number).second) {
      reach(*inode, reached);
    }
  }
  std::erase_if(inodes_, [&](const auto& item) { return !reached.contains(item.first); });
}

std::set<InodeNumber> State::reached_now() const {
  std::set<InodeNumber> reached{kRoot};
  std::vector<InodeNumber> unvisited{kRoot};
  while (!unvisited.empty()) {
    const auto& inode = *inodes_.at(unvisited.back());
    unvisited.pop_back();
    for (const auto& [text, name] : inode.names) {
      const auto number = name.current();
      if (number != 0 && reached.insert(number).second) {
        unvisited.push_back(number);
      }
    }
  }
  return reached;
}

void State::recount_links() {
  for (const auto& [number, inode] : inodes_) {
    inode->links = 0;
  }
  for (const auto& [number, inode] : inodes_) {
    for (const auto& [text, name] : inode->names) {
      if (name.current() != 0) {
        auto& named = *inodes_.at(name.current());
        ++named.links;
        named.name = text;
      }
    }
  }
}

// --- Files

void State::close(const HandleOrigin& origin, Inode& inode) noexcept {
  const Guard guard(mutex_);
  if (origin.process == process_) {
    --inode.handles;
    if (inode.handles == 0 && inode.links == 0 && inode.number != kRoot) {
      collect();
    }
  }
}

Result<std::size_t> State::read_at(const HandleOrigin& origin, Inode& inode, std::uint64_t offset,
                                   ByteSpan into) {
  Guard guard(mutex_);
  NORI_TRY(enter(guard, origin, Operation::read));
  auto fate = decide(Operation::read, origin, inode.name);
  NORI_TRY(fate.result());
  const auto end = std::min(offset + into.size(), inode.contents.size());
  for (const auto& range : inode.unreadable) {
    if (range.overlaps(offset, end)) {
      return std::unexpected(system_error(EIO, "read", origin.path.native(),
                                          "unreadable at " + std::to_string(range.begin)));
    }
  }
  return inode.contents.read(offset, into);
}

void State::note_access(Inode& inode, io::Access access) {
  auto& flag = access == io::Access::write_direct ? inode.written_direct : inode.written_buffered;
  flag = true;
  mixed_io_seen_ = mixed_io_seen_ || (inode.written_direct && inode.written_buffered);
}

void State::write_now(Inode& inode, io::Access access, std::uint64_t offset, ByteView bytes) {
  if (bytes.empty()) {
    return;
  }
  note_access(inode, access);
  if (inode.name.ends_with(options_.durable_suffix)) {
    durable_bytes_changed_ += inode.contents.durable_bytes_changed_by(offset, bytes);
  }
  std::erase_if(inode.unreadable, [&](const ByteRange& range) {
    return range.overlaps(offset, offset + bytes.size());
  });
  inode.contents.write(offset, bytes);
}

void State::write_and_fail(Inode& inode, io::Access access, std::uint64_t offset, ByteView left) {
  write_now(inode, access, offset, left);
  inode.contents.disown(offset, left.size());
}

/// How much of a write that was cut short has been written: none, some or all of its sectors.
std::uint64_t State::prefix_in_sectors(std::uint64_t offset, std::uint64_t bytes) {
  const auto first = offset / options_.sector_bytes;
  const auto end = (offset + bytes + options_.sector_bytes - 1) / options_.sector_bytes;
  const auto cut = (first + faults_random_.below(end - first + 1)) * options_.sector_bytes;
  return std::clamp(cut, offset, offset + bytes) - offset;
}

/// The same of a write that found no space: without the page that it lacked it for.
std::uint64_t State::prefix_with_room(std::uint64_t offset, std::uint64_t bytes) {
  const auto last_page = bytes == 0 ? offset : round_down(offset + bytes - 1, kPageBytes);
  return std::min(prefix_in_sectors(offset, bytes), std::max(offset, last_page) - offset);
}

void State::settle_write(WriteInFlight& write) {
  const auto prefix = faults_random_.coin() ? write.bytes.size()
                                            : prefix_in_sectors(write.offset, write.bytes.size());
  write_now(*write.inode, write.access, write.offset, write.bytes.first(prefix));
  write.settled = true;
}

bool State::fits(const Inode& inode, std::uint64_t offset, std::uint64_t bytes) const {
  return capacity_bytes_ == kUnlimited ||
         inode.contents.blocks_missing(offset, bytes) * kPageBytes <= free_bytes();
}

Result<void> State::write_at(const HandleOrigin& origin, Inode& inode, io::Access access,
                             std::uint64_t offset, ByteView first, ByteView second, bool durable) {
  // One piece, so that no sector can be left with a half of it.
  std::vector<std::byte> joined;
  auto bytes = first.empty() ? second : first;
  if (!first.empty() && !second.empty()) {
    joined.reserve(first.size() + second.size());
    joined.insert(joined.end(), first.begin(), first.end());
    joined.insert(joined.end(), second.begin(), second.end());
    bytes = joined;
  }
  const auto operation = durable ? Operation::durable_write : Operation::write;

  Guard guard(mutex_);
  NORI_TRY(check_alive(origin));
  if (access == io::Access::write_direct && options_.direct_support != DirectSupport::works) {
    return std::unexpected(system_error(EINVAL, "write", origin.path.native(), "direct refused"));
  }
  if (latency_ != nullptr) {
    WriteInFlight write{&inode, access, offset, bytes};
    const auto block_bytes = options_.traits.block_bytes;
    const ByteRange blocks{round_down(offset, block_bytes),
                           round_up(offset + bytes.size(), block_bytes)};
    for (const auto* const other : writes_in_flight_) {
      const bool overlaps = other->inode == &inode &&
                            blocks.overlaps(other->offset, other->offset + other->bytes.size());
      overlapping_writes_seen_ = overlapping_writes_seen_ || overlaps;
    }
    writes_in_flight_.push_back(&write);
    pause(guard, operation);
    std::erase(writes_in_flight_, &write);
    if (!write.settled && origin.process == process_ && dead_) {
      settle_write(write);
    }
    NORI_TRY(check_alive(origin));
  }

  note("write ", inode.name, " ", range_text(offset, bytes.size()), durable ? " durable" : "");
  auto fate = decide(operation, origin, inode.name);
  if (fate.end != End::completes) {
    const bool is_whole = fate.takes_effect;
    const auto written = is_whole ? bytes.size()
                         : fate.error->code == ErrorCode::no_space
                             ? prefix_with_room(offset, bytes.size())
                             : prefix_in_sectors(offset, bytes.size());
    write_and_fail(inode, access, offset, bytes.first(written));
    if (fate.drops_pages && is_whole && access == io::Access::write_buffered) {
      inode.contents.drop(offset, bytes.size());
    }
    return fate.result();
  }
  if (writes_hit_no_space_) {
    write_and_fail(inode, access, offset, bytes.first(prefix_with_room(offset, bytes.size())));
    return std::unexpected(system_error(ENOSPC, "write", origin.path.native()));
  }
  if (!fits(inode, offset, bytes.size())) {
    auto written = std::uint64_t{0};
    for (auto end = round_up(offset + 1, kPageBytes);
         end - offset < bytes.size() && fits(inode, offset, end - offset); end += kPageBytes) {
      written = end - offset;
    }
    write_and_fail(inode, access, offset, bytes.first(written));
    return std::unexpected(system_error(ENOSPC, "write", origin.path.native()));
  }
  write_now(inode, access, offset, bytes);
  if (durable) {
    inode.contents.make_durable(offset, bytes.size());
  }
  return {};
}

Result<void> State::sync(const HandleOrigin& origin, Inode& inode) {
  Guard guard(mutex_);
  NORI_TRY(check_alive(origin));
  // What returned before it began is what it carries.
  const auto carried = inode.contents.unsynced();
  NORI_TRY(enter(guard, origin, Operation::sync));
  note("sync ", inode.name);
  auto fate = decide(Operation::sync, origin, inode.name);
  if (fate.takes_effect) {
    inode.contents.make_durable(carried);
  } else if (fate.drops_pages) {
    inode.contents.drop(carried);
  }
  return fate.result();
}

Result<void> State::allocate(const HandleOrigin& origin, Inode& inode, std::uint64_t offset,
                             std::uint64_t bytes) {
  Guard guard(mutex_);
  const auto size_before = inode.contents.size();
  NORI_TRY(enter(guard, origin, Operation::allocate));
  note("allocate ", inode.name, " ", range_text(offset, bytes));
  auto fate = decide(Operation::allocate, origin, inode.name);
  if (bytes == 0) {
    return std::unexpected(system_error(EINVAL, "allocate", origin.path.native()));
  }
  if (!fate.error && !fits(inode, offset, bytes)) {
    fate.end = End::fails;
    fate.takes_effect = false;
    fate.error = system_error(ENOSPC, "allocate", origin.path.native());
  }
  if (fate.takes_effect) {
    inode.contents.allocate(offset, bytes);
  } else if (fate.end == End::fails && inode.contents.size() > size_before) {
    inode.contents.resize(size_before);  // what was written behind it meanwhile goes too
  }
  return fate.result();
}

Result<void> State::truncate(const HandleOrigin& origin, Inode& inode, std::uint64_t bytes) {
  Guard guard(mutex_);
  NORI_TRY(enter(guard, origin, Operation::truncate));
  note("truncate ", inode.name, " ", std::to_string(bytes));
  auto fate = decide(Operation::truncate, origin, inode.name);
  if (fate.takes_effect) {
    inode.contents.resize(bytes);
  }
  return fate.result();
}

Result<io::FileStatus> State::status(const HandleOrigin& origin, const Inode& inode) {
  Guard guard(mutex_);
  NORI_TRY(enter(guard, origin, Operation::status));
  NORI_TRY(decide(Operation::status, origin, inode.name).result());
  return io::FileStatus{.bytes = inode.contents.size(), .has_name = inode.links != 0};
}

void State::unmap(const HandleOrigin& origin, Inode& inode, std::shared_ptr<MappedMemory>& memory) {
  const Guard guard(mutex_);
  memory.reset();
  if (origin.process == process_) {
    if (--inode.handles == 0 && inode.links == 0) {
      collect();
    }
    inode.contents.unmap_unless_shared();
  }
}

void State::unlock(const HandleOrigin& origin, InodeNumber inode) noexcept {
  const Guard guard(mutex_);
  if (origin.process == process_) {
    locks_.erase(inode);
  }
}

// --- Directories

std::unique_ptr<io::Directory> State::make_directory_handle(Inode& inode, HandleOrigin origin) {
  ++inode.handles;
  return std::make_unique<SimulatedDirectory>(shared_from_this(), ref(inode), std::move(origin),
                                              options_.traits);
}

Result<std::unique_ptr<io::Directory>> State::open_directory(const std::filesystem::path& path,
                                                             bool create) {
  Guard guard(mutex_);
  HandleOrigin origin{process_, path};
  NORI_TRY(enter(guard, origin, Operation::open));
  auto opened = decide(Operation::open, origin, path.filename().native());
  NORI_TRY(opened.result());
  auto* directory = inodes_.at(kRoot).get();
  for (const auto& name : components_of(path)) {
    auto* next = look_up(*directory, name);
    if (next == nullptr && !create) {
      auto error = system_error(ENOENT, "open", path.native());
      error.code = ErrorCode::not_a_log;
      return std::unexpected(std::move(error));
    }
    if (next == nullptr) {
      note("create ", name, "/");
      auto fate = decide(Operation::create, origin, name);
      if (fate.takes_effect) {
        next = &make_inode(true);
        set_name(*directory, name, next->number);
      }
      NORI_TRY(fate.result());
    }
    if (!next->is_directory) {
      return std::unexpected(system_error(ENOTDIR, "open", path.native()));
    }
    if (create) {
      auto& entry = directory->names.find(name)->second;
      entry.durable = next->number;
      entry.changes.clear();
      next->was_durable = true;
    }
    directory = next;
  }
  return make_directory_handle(*directory, std::move(origin));
}

Result<std::vector<std::string>> State::list(const HandleOrigin& origin, const Inode& directory) {
  Guard guard(mutex_);
  NORI_TRY(enter(guard, origin, Operation::list));
  auto fate = decide(Operation::list, origin, directory.name);
  NORI_TRY(fate.result());
  std::vector<std::string> names;
  for (const auto& [text, name] : directory.names) {
    if (name.current() != 0) {
      names.push_back(text);
    }
  }
  return names;
}

Result<std::unique_ptr<io::File>> State::open(const HandleOrigin& origin, Inode& directory,
                                              std::string_view name, io::Access access,
                                              io::Creation creation,
                                              std::uint64_t direct_alignment) {
  const bool is_made = creation == io::Creation::replace;
  const auto operation = is_made ? Operation::create : Operation::open;
  Guard guard(mutex_);
  NORI_TRY(enter(guard, origin, operation));
  HandleOrigin opened{origin.process, origin.path / name};
  auto* inode = look_up(directory, name);
  if (inode == nullptr && !is_made) {
    return std::unexpected(system_error(ENOENT, "open", opened.path.native()));
  }
  if (inode != nullptr && inode->is_directory) {
    return std::unexpected(system_error(EISDIR, "open", opened.path.native()));
  }
  if (is_made) {
    note("create ", name);
  }
  auto fate = decide(operation, opened, name);
  // On some filesystems a refused O_DIRECT leaves the new file behind.
  if (fate.takes_effect && is_made) {
    auto& made = make_inode(false);
    set_name(directory, name, made.number);
    inode = &made;
  }
  NORI_TRY(fate.result());
  if (access == io::Access::write_direct &&
      options_.direct_support == DirectSupport::refused_at_open) {
    return std::unexpected(system_error(EINVAL, "open", opened.path.native(), "direct refused"));
  }
  ++inode->handles;
  return std::make_unique<SimulatedFile>(shared_from_this(), ref(*inode), std::move(opened), access,
                                         direct_alignment);
}

Result<io::FileId> State::id_of(const HandleOrigin& origin, const Inode& directory,
                                std::string_view name) {
  Guard guard(mutex_);
  NORI_TRY(enter(guard, origin, Operation::status));
  NORI_TRY(decide(Operation::status, origin, name).result());
  const auto* const inode = look_up(directory, name);
  if (inode == nullptr) {
    return std::unexpected(system_error(ENOENT, "stat", (origin.path / name).native()));
  }
  return io::FileId{kDevice, inode->number};
}

Result<void> State::rename(const HandleOrigin& origin, Inode& from_directory, std::string_view from,
                           const HandleOrigin& to_origin, Inode& to_directory,
                           std::string_view to) {
  Guard guard(mutex_);
  NORI_TRY(check_alive(to_origin));
  NORI_TRY(enter(guard, origin, Operation::rename));
  const auto* const moved = look_up(from_directory, from);
  const auto* const replaced = look_up(to_directory, to);
  if (moved == nullptr) {
    return std::unexpected(system_error(ENOENT, "rename", (origin.path / from).native()));
  }
  if (replaced != nullptr && replaced->is_directory != moved->is_directory) {
    return std::unexpected(system_error(replaced->is_directory ? EISDIR : ENOTDIR, "rename",
                                        (to_origin.path / to).native()));
  }
  if (replaced != nullptr && replaced->is_directory && replaced != moved &&
      std::ranges::any_of(replaced->names,
                          [](const auto& item) { return item.second.current() != 0; })) {
    return std::unexpected(system_error(ENOTEMPTY, "rename", (to_origin.path / to).native()));
  }
  const bool is_same_directory = &from_directory == &to_directory;
  note("rename ", from, " -> ", is_same_directory ? "" : to_directory.name + "/", to);
  auto fate = decide(Operation::rename, origin, from);
  // Two names of one file: POSIX says nothing happens, and both stay.
  if (fate.takes_effect && moved != replaced) {
    const auto number = moved->number;
    set_name(to_directory, to, number);
    set_name(from_directory, from, 0);
  }
  return fate.result();
}

Result<void> State::remove(const HandleOrigin& origin, Inode& directory, std::string_view name) {
  Guard guard(mutex_);
  NORI_TRY(enter(guard, origin, Operation::remove));
  const auto* const inode = look_up(directory, name);
  if (inode == nullptr || inode->is_directory) {
    return std::unexpected(
        system_error(inode == nullptr ? ENOENT : EISDIR, "remove", (origin.path / name).native()));
  }
  note("remove ", name);
  auto fate = decide(Operation::remove, origin, name);
  if (fate.takes_effect) {
    set_name(directory, name, 0);
  }
  return fate.result();
}

Result<void> State::sync_directory(const HandleOrigin& origin, Inode& directory) {
  Guard guard(mutex_);
  const auto stamp = name_stamp_;
  NORI_TRY(enter(guard, origin, Operation::directory_sync));
  note("directory_sync ", directory.name, "/");
  auto fate = decide(Operation::directory_sync, origin, directory.name);
  if (fate.takes_effect) {
    settle_names(directory, stamp);
    collect();
  }
  return fate.result();
}

Result<std::unique_ptr<io::Directory>> State::subdirectory(const HandleOrigin& origin,
                                                           Inode& directory, std::string_view name,
                                                           bool may_make) {
  Guard guard(mutex_);
  NORI_TRY(enter(guard, origin, Operation::open));
  HandleOrigin opened{origin.process, origin.path / name};
  auto* inode = look_up(directory, name);
  const bool is_made = inode == nullptr && may_make;
  if (is_made) {
    note("create ", name, "/");
  } else if (inode == nullptr || !inode->is_directory) {
    return std::unexpected(
        system_error(inode == nullptr ? ENOENT : ENOTDIR, "open directory", opened.path.native()));
  }
  auto fate = decide(is_made ? Operation::create : Operation::open, opened, name);
  if (is_made && fate.takes_effect) {
    inode = &make_inode(true);
    set_name(directory, name, inode->number);
  }
  NORI_TRY(fate.result());
  return make_directory_handle(*inode, std::move(opened));
}

Result<std::unique_ptr<io::Mapping>> State::map(const HandleOrigin& origin, Inode& directory,
                                                std::string_view name) {
  Guard guard(mutex_);
  NORI_TRY(enter(guard, origin, Operation::map));
  HandleOrigin opened{origin.process, origin.path / name};
  auto fate = decide(Operation::map, opened, name);
  NORI_TRY(fate.result());
  auto* const inode = look_up(directory, name);
  if (inode == nullptr || inode->is_directory) {
    return std::unexpected(
        system_error(inode == nullptr ? ENOENT : EISDIR, "map", opened.path.native()));
  }
  if (!options_.traits.mapping_allowed) {
    return std::unexpected(system_error(ENODEV, "map", opened.path.native(), "mapping refused"));
  }
  if (inode->contents.size() == 0) {
    return std::unexpected(system_error(EINVAL, "map", opened.path.native(), "empty"));
  }
  auto memory = inode->contents.map();
  if (memory == nullptr) {
    return std::unexpected(
        system_error(ENOTSUP, "map", opened.path.native(), "mapped at another size"));
  }
  mapped_holes_seen_ = mapped_holes_seen_ || inode->contents.has_holes();
  note_access(*inode, io::Access::write_buffered);
  ++inode->handles;
  return std::make_unique<SimulatedMapping>(shared_from_this(), ref(*inode), std::move(opened),
                                            std::move(memory));
}

Result<std::unique_ptr<io::Lock>> State::lock(const HandleOrigin& origin, Inode& directory,
                                              std::string_view name, std::string_view holder) {
  Guard guard(mutex_);
  NORI_TRY(enter(guard, origin, Operation::lock));
  HandleOrigin opened{origin.process, origin.path / name};
  auto fate = decide(Operation::lock, opened, name);
  NORI_TRY(fate.result());
  auto* inode = look_up(directory, name);
  if (inode == nullptr) {
    inode = &make_inode(false);
    set_name(directory, name, inode->number);
  } else if (inode->is_directory) {
    return std::unexpected(system_error(EISDIR, "lock", opened.path.native()));
  }
  if (const auto held = locks_.find(inode->number); held != locks_.end()) {
    return std::unexpected(Error{.code = ErrorCode::locked,
                                 .message = opened.path.native() + " is held by " + held->second});
  }
  locks_[inode->number] = holder;
  inode->contents.resize(0);
  inode->contents.write(0, as_byte_view(holder));
  return std::make_unique<SimulatedLock>(shared_from_this(), std::move(opened), inode->number);
}

// --- Crashes

void State::end_process() {
  for (auto* const write : writes_in_flight_) {
    if (!write->settled) {
      settle_write(*write);
    }
  }
  for (const auto& [number, inode] : inodes_) {
    inode->contents.unmap();
    inode->handles = 0;
  }
  locks_.clear();
  ++process_;
  dead_ = false;
  operations_left_.reset();
  boot_ms_ = now_ms_;
}

void State::crash_process() {
  const Guard guard(mutex_);
  note("-- process crash");
  end_process();
  collect();
}

/// Gives back their present name, and those of their directories, to files that may not lose it.
/// Returns whether there were any.
bool State::restore_names(
    const std::map<InodeNumber, std::pair<InodeNumber, std::string>>& names_before) {
  const auto reached = reached_now();
  bool restored = false;
  for (const auto& [number, place] : names_before) {
    if (reached.contains(number) || !inodes_.at(number)->was_durable) {
      continue;
    }
    for (auto lost = number; lost != kRoot;) {
      const auto& [directory, text] = names_before.at(lost);
      auto& name = inodes_.at(directory)->names[text];
      restored = restored || name.durable != lost;
      name.durable = lost;
      lost = directory;
    }
  }
  return restored;
}

void State::power_cut(std::uint64_t seed, const PowerCutOptions& options) {
  const Guard guard(mutex_);
  note("-- power cut ", std::to_string(seed));
  end_process();

  Random random(seed);
  // Where each file that has a name has it, unless that lies in a directory that has none.
  std::map<InodeNumber, std::pair<InodeNumber, std::string>> names_before;
  bool names_settled = true;
  for (const auto number : reached_now()) {
    for (const auto& [text, name] : inodes_.at(number)->names) {
      names_settled = names_settled && name.changes.empty();
      if (name.current() != 0) {
        names_before[name.current()] = {number, text};
      }
    }
  }
  if (!names_settled) {
    constexpr unsigned kKeepChances[] = {32, 128, 224};
    const auto keep_chance = kKeepChances[random.below(3)];
    for (const auto& [number, inode] : inodes_) {
      for (auto& [text, name] : inode->names) {
        if (name.changes.empty() || options.survival == Survival::nothing) {
          name.changes.clear();
          continue;
        }
        auto survivor = name.current();
        if (options.survival == Survival::random && !random.chance(keep_chance)) {
          const auto pick = static_cast<std::size_t>(random.below(name.changes.size() + 1));
          survivor = pick == 0 ? name.durable : name.changes[pick - 1].inode;
        }
        name.durable = survivor;
        name.changes.clear();
      }
    }
    // Each round settles a name for good, so it ends.
    while (restore_names(names_before)) {
    }
    for (const auto& [number, inode] : inodes_) {
      std::erase_if(inode->names, [](const auto& item) { return item.second.durable == 0; });
      for (const auto& [text, name] : inode->names) {
        inodes_.at(name.durable)->was_durable = true;
      }
    }
  }
  collect();
  recount_links();
  for (const auto& [number, inode] : inodes_) {
    if (!inode->is_directory) {
      inode->contents.cut_power(options, random);
    }
  }
}

std::shared_ptr<State> State::clone() const {
  const Guard guard(mutex_);
  auto copy = std::make_shared<State>(options_);
  copy->faults_random_ = faults_random_;
  copy->bits_ = bits_;
  copy->now_ms_ = now_ms_;
  copy->boot_ms_ = boot_ms_;
  copy->process_ = process_ + 1;
  copy->capacity_bytes_ = capacity_bytes_;
  copy->writes_hit_no_space_ = writes_hit_no_space_;
  copy->inode_last_ = inode_last_;
  copy->name_stamp_ = name_stamp_;
  for (const auto& [number, inode] : inodes_) {
    auto& made = copy->inodes_[number];
    made = std::make_shared<Inode>(*inode);
    made->handles = 0;
    made->contents.unmap();
  }
  for (const auto* const write : writes_in_flight_) {
    // The copy is of a machine without the process: its writes have ended there.
    if (const auto found = copy->inodes_.find(write->inode->number);
        !write->settled && found != copy->inodes_.end()) {
      WriteInFlight ended{found->second.get(), write->access, write->offset, write->bytes};
      copy->settle_write(ended);
    }
  }
  copy->collect();
  return copy;
}

// --- Damage

std::pair<Inode*, std::string> State::locate(std::string_view path) const {
  auto components = components_of(std::filesystem::path(path));
  if (components.empty()) {
    return {nullptr, {}};
  }
  auto last = std::move(components.back());
  components.pop_back();
  auto* directory = inodes_.at(kRoot).get();
  for (const auto& component : components) {
    directory = look_up(*directory, component);
    if (directory == nullptr || !directory->is_directory) {
      return {nullptr, {}};
    }
  }
  return {directory, std::move(last)};
}

Result<Inode*> State::find_file(std::string_view path) const {
  const auto [directory, name] = locate(path);
  auto* const inode = directory == nullptr ? nullptr : look_up(*directory, name);
  if (inode == nullptr || inode->is_directory) {
    return std::unexpected(system_error(ENOENT, "find", path));
  }
  return inode;
}

Result<void> State::flip_bit(std::string_view path, std::uint64_t offset, unsigned bit) {
  const Guard guard(mutex_);
  auto* const inode = NORI_TRY(find_file(path));
  if (offset >= inode->contents.size()) {
    return std::unexpected(system_error(EINVAL, "flip a bit of", path, "behind its end"));
  }
  inode->contents.flip_bit(offset, bit);
  return {};
}

Result<std::vector<std::byte>> State::read_file(std::string_view path) const {
  const Guard guard(mutex_);
  const auto* const inode = NORI_TRY(find_file(path));
  std::vector<std::byte> bytes(static_cast<std::size_t>(inode->contents.size()));
  (void)inode->contents.read(0, bytes);
  return bytes;
}

Result<void> State::write_file(std::string_view path, ByteView bytes) {
  const Guard guard(mutex_);
  auto components = components_of(std::filesystem::path(path));
  if (components.empty()) {
    return std::unexpected(system_error(EISDIR, "write", path));
  }
  auto* inode = inodes_.at(kRoot).get();
  for (std::size_t i = 0; i < components.size(); ++i) {
    if (!inode->is_directory) {
      return std::unexpected(system_error(ENOTDIR, "write", path));
    }
    auto& directory = *inode;
    inode = look_up(directory, components[i]);
    if (inode == nullptr) {
      inode = &make_inode(i + 1 < components.size());
      set_name(directory, components[i], inode->number);
    }
    auto& name = directory.names.find(components[i])->second;
    name.durable = inode->number;
    name.changes.clear();
    inode->was_durable = true;
  }
  if (inode->is_directory) {
    return std::unexpected(system_error(EISDIR, "write", path));
  }
  inode->contents.resize(0);
  inode->contents.write(0, bytes);
  inode->contents.make_all_durable();
  inode->unreadable.clear();
  return {};
}

Result<void> State::remove_file(std::string_view path) {
  const Guard guard(mutex_);
  NORI_TRY(find_file(path));
  const auto [directory, name] = locate(path);
  set_name(*directory, name, 0);
  directory->names.erase(directory->names.find(name));
  collect();
  return {};
}

Result<void> State::swap_files(std::string_view one, std::string_view other) {
  const Guard guard(mutex_);
  const auto* const one_file = NORI_TRY(find_file(one));
  const auto* const other_file = NORI_TRY(find_file(other));
  const auto lead = [this](std::string_view path, InodeNumber inode) {
    const auto [directory, text] = locate(path);
    set_name(*directory, text, inode);
    auto& name = directory->names.find(text)->second;
    name.durable = inode;
    name.changes.clear();
    inodes_.at(inode)->was_durable = true;
  };
  const auto one_number = one_file->number;
  lead(one, other_file->number);
  lead(other, one_number);
  return {};
}

Result<std::vector<std::string>> State::list_files(std::string_view directory) const {
  const Guard guard(mutex_);
  const auto* inode = inodes_.at(kRoot).get();
  for (const auto& component : components_of(std::filesystem::path(directory))) {
    inode = look_up(*inode, component);
    if (inode == nullptr || !inode->is_directory) {
      return std::unexpected(system_error(ENOENT, "list", directory));
    }
  }
  std::vector<std::string> names;
  for (const auto& [text, name] : inode->names) {
    if (name.current() != 0) {
      names.push_back(inodes_.at(name.current())->is_directory ? text + "/" : text);
    }
  }
  return names;
}

Result<void> State::make_unreadable(std::string_view path, std::uint64_t offset,
                                    std::uint64_t bytes) {
  const Guard guard(mutex_);
  auto* const inode = NORI_TRY(find_file(path));
  inode->unreadable.push_back({offset, offset + bytes});
  return {};
}

void State::forget_dropped_pages() {
  const Guard guard(mutex_);
  for (const auto& [number, inode] : inodes_) {
    inode->contents.forget_dropped();
  }
}

void State::writeback() {
  const Guard guard(mutex_);
  for (const auto& [number, inode] : inodes_) {
    inode->contents.write_back(std::numeric_limits<std::uint64_t>::max(), faults_random_);
  }
}

std::uint64_t State::free_bytes_for(const HandleOrigin& origin) const {
  const Guard guard(mutex_);
  return check_alive(origin) ? free_bytes() : 0;
}

std::uint64_t State::free_bytes() const {
  if (capacity_bytes_ == kUnlimited) {
    return kUnlimited;
  }
  std::uint64_t used = 0;
  for (const auto& [number, inode] : inodes_) {
    if (inode->links > 0 || inode->handles > 0) {
      used += inode->contents.blocks_allocated() * kPageBytes;
    }
  }
  return capacity_bytes_ - std::min(used, capacity_bytes_);
}

// --- SimulatedDisk

SimulatedDisk::SimulatedDisk(SimulatedDiskOptions options)
    : state_(std::make_shared<State>(std::move(options))) {}

SimulatedDisk::SimulatedDisk(std::uint64_t seed)
    : SimulatedDisk(SimulatedDiskOptions{.seed = seed}) {}

SimulatedDisk::SimulatedDisk(std::shared_ptr<State> state) : state_(std::move(state)) {}

SimulatedDisk::~SimulatedDisk() = default;

Result<std::unique_ptr<io::Directory>> SimulatedDisk::open_directory(
    const std::filesystem::path& path, bool create) {
  return state_->open_directory(path, create);
}

std::uint64_t SimulatedDisk::now_ms() {
  const std::lock_guard guard(state_->mutex_);
  return state_->now_ms_;
}

std::uint64_t SimulatedDisk::random_bits() {
  const std::lock_guard guard(state_->mutex_);
  return state_->bits_.next();
}

std::string SimulatedDisk::holder_description() {
  const std::lock_guard guard(state_->mutex_);
  return "host simulated, process " + std::to_string(state_->process_) + ", since " +
         std::to_string(state_->boot_ms_);
}

void SimulatedDisk::set_now_ms(std::uint64_t now_ms) {
  const std::lock_guard guard(state_->mutex_);
  state_->now_ms_ = now_ms;
}

void SimulatedDisk::advance_ms(std::int64_t ms) {
  const std::lock_guard guard(state_->mutex_);
  state_->now_ms_ += static_cast<std::uint64_t>(ms);
}

void SimulatedDisk::crash_process() { state_->crash_process(); }

void SimulatedDisk::power_cut(std::uint64_t seed, const PowerCutOptions& options) {
  state_->power_cut(seed, options);
}

void SimulatedDisk::crash_after(std::uint64_t operations) {
  const std::lock_guard guard(state_->mutex_);
  state_->operations_left_ = operations;
}

bool SimulatedDisk::dead() const {
  const std::lock_guard guard(state_->mutex_);
  return state_->dead_;
}

std::uint64_t SimulatedDisk::operations() const {
  const std::lock_guard guard(state_->mutex_);
  return state_->operations_;
}

void SimulatedDisk::inject(Fault fault) {
  const std::lock_guard guard(state_->mutex_);
  state_->faults_.add(std::move(fault));
}

void SimulatedDisk::fail_nth(OperationSet operations, std::uint64_t n, int system_errno,
                             Repeat repeat, bool drops_pages) {
  inject({.operations = operations,
          .after = n,
          .system_errno = system_errno,
          .repeat = repeat,
          .drops_pages = drops_pages});
}

void SimulatedDisk::clear_faults() {
  const std::lock_guard guard(state_->mutex_);
  state_->faults_.clear();
}

std::uint64_t SimulatedDisk::faults_hit() const {
  const std::lock_guard guard(state_->mutex_);
  return state_->faults_.hits();
}

void SimulatedDisk::forget_dropped_pages() { state_->forget_dropped_pages(); }

void SimulatedDisk::writeback() { state_->writeback(); }

void SimulatedDisk::set_capacity_bytes(std::uint64_t bytes) {
  const std::lock_guard guard(state_->mutex_);
  state_->capacity_bytes_ = bytes;
}

std::uint64_t SimulatedDisk::free_bytes() const {
  const std::lock_guard guard(state_->mutex_);
  return state_->free_bytes();
}

void SimulatedDisk::writes_may_hit_no_space(bool on) {
  const std::lock_guard guard(state_->mutex_);
  state_->writes_hit_no_space_ = on;
}

void SimulatedDisk::set_traits(const io::DirectoryTraits& traits) {
  const std::lock_guard guard(state_->mutex_);
  state_->options_.traits = traits;
}

void SimulatedDisk::set_direct_support(DirectSupport support) {
  const std::lock_guard guard(state_->mutex_);
  state_->options_.direct_support = support;
}

void SimulatedDisk::set_latency(std::function<std::chrono::microseconds(Operation)> latency) {
  auto shared = latency
                    ? std::make_shared<const std::function<std::chrono::microseconds(Operation)>>(
                          std::move(latency))
                    : nullptr;
  const std::lock_guard guard(state_->mutex_);
  state_->latency_ = std::move(shared);
}

Result<void> SimulatedDisk::flip_bit(std::string_view path, std::uint64_t offset, unsigned bit) {
  return state_->flip_bit(path, offset, bit);
}

Result<std::vector<std::byte>> SimulatedDisk::read_file(std::string_view path) const {
  return state_->read_file(path);
}

Result<void> SimulatedDisk::write_file(std::string_view path, ByteView bytes) {
  return state_->write_file(path, bytes);
}

Result<void> SimulatedDisk::remove_file(std::string_view path) { return state_->remove_file(path); }

Result<void> SimulatedDisk::swap_files(std::string_view one, std::string_view other) {
  return state_->swap_files(one, other);
}

Result<std::vector<std::string>> SimulatedDisk::list_files(std::string_view directory) const {
  return state_->list_files(directory);
}

Result<void> SimulatedDisk::make_unreadable(std::string_view path, std::uint64_t offset,
                                            std::uint64_t bytes) {
  return state_->make_unreadable(path, offset, bytes);
}

bool SimulatedDisk::mixed_io_seen() const {
  const std::lock_guard guard(state_->mutex_);
  return state_->mixed_io_seen_;
}

bool SimulatedDisk::overlapping_writes_seen() const {
  const std::lock_guard guard(state_->mutex_);
  return state_->overlapping_writes_seen_;
}

std::uint64_t SimulatedDisk::durable_bytes_changed() const {
  const std::lock_guard guard(state_->mutex_);
  return state_->durable_bytes_changed_;
}

bool SimulatedDisk::mapped_holes_seen() const {
  const std::lock_guard guard(state_->mutex_);
  return state_->mapped_holes_seen_;
}

void SimulatedDisk::set_tracing(bool on) {
  const std::lock_guard guard(state_->mutex_);
  state_->tracing_ = on;
}

std::vector<std::string> SimulatedDisk::trace() const {
  const std::lock_guard guard(state_->mutex_);
  return state_->trace_;
}

std::unique_ptr<SimulatedDisk> SimulatedDisk::clone() const {
  return std::unique_ptr<SimulatedDisk>(new SimulatedDisk(state_->clone()));
}

}  // namespace nori::testing
