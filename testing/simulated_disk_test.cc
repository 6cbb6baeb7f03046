#include "testing/simulated_disk.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "testing/random.h"

namespace nori::testing {
namespace {

using io::Access;
using io::Creation;

constexpr std::size_t kBlock = 4096;
constexpr PowerCutOptions kLoseAll{.survival = Survival::nothing};
constexpr PowerCutOptions kKeepAll{.survival = Survival::everything};

/// A small language: a directory "log" on a disk, whole-text writes and reads.
class SimulatedDiskTest : public ::testing::Test {
 protected:
  void SetUp() override { reopen(); }

  void use(SimulatedDiskOptions options) {
    directory_.reset();
    disk_ = std::make_unique<SimulatedDisk>(std::move(options));
    reopen();
  }

  void reopen() { directory_ = std::move(*disk_->open_directory("log", true)); }

  std::unique_ptr<io::File> make(std::string_view name, Access access = Access::write_buffered) {
    auto file = directory_->open(name, access, Creation::replace);
    EXPECT_TRUE(file) << file.error().message;
    return std::move(*file);
  }

  /// A file whose name is durable.
  std::unique_ptr<io::File> make_named(std::string_view name,
                                       Access access = Access::write_buffered) {
    auto file = make(name, access);
    EXPECT_TRUE(directory_->sync());
    return file;
  }

  static Result<void> write(io::File& file, std::uint64_t offset, std::string_view text,
                            bool durable = false) {
    return file.write_at(offset, as_byte_view(text), {}, durable);
  }

  /// What the file holds now; nullopt if the name leads nowhere.
  std::optional<std::string> contents(std::string_view name) const {
    const auto bytes = disk_->read_file("log/" + std::string(name));
    if (!bytes) {
      return std::nullopt;
    }
    return std::string(as_text(*bytes));
  }

  static std::string blocks(char letter, std::size_t count = 1) {
    return std::string(count * kBlock, letter);
  }
  static std::string sector(char letter) { return std::string(512, letter); }

  /// What comes of many power cuts from the state that `prepare` leaves on a new disk.
  template <typename Prepare, typename Observe>
  auto outcomes(Prepare prepare, Observe observe, PowerCutOptions options = {}, int cuts = 300) {
    std::set<decltype(observe())> seen;
    prepare();
    const auto before = disk_->clone();
    directory_.reset();
    for (int seed = 0; seed < cuts; ++seed) {
      disk_ = before->clone();
      disk_->power_cut(static_cast<std::uint64_t>(seed), options);
      seen.insert(observe());
    }
    return seen;
  }

  std::unique_ptr<SimulatedDisk> disk_ = std::make_unique<SimulatedDisk>(1);
  std::unique_ptr<io::Directory> directory_;
};

// --- Durability of bytes

TEST_F(SimulatedDiskTest, UnsyncedBytesAreReadableAndLostByAPowerCut) {
  const auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, "hello"));
  std::string read(10, '-');
  EXPECT_EQ(file->read_at(0, std::as_writable_bytes(std::span(read))), 5U);
  EXPECT_EQ(read, "hello-----");
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(contents("a"), "");
}

TEST_F(SimulatedDiskTest, SyncedBytesSurviveEveryPowerCut) {
  const auto seen = outcomes(
      [&] {
        const auto file = make_named("a");
        ASSERT_TRUE(write(*file, 0, blocks('x', 3)));
        ASSERT_TRUE(file->sync());
      },
      [&] { return *contents("a"); });
  EXPECT_EQ(seen, std::set{blocks('x', 3)});
}

TEST_F(SimulatedDiskTest, KeepingEverythingKeepsAllUnsyncedState) {
  const auto file = make("a");
  ASSERT_TRUE(write(*file, 100, "hello"));
  disk_->power_cut(1, kKeepAll);
  EXPECT_EQ(contents("a"), std::string(100, '\0') + "hello");
}

TEST_F(SimulatedDiskTest, ADurableWriteMakesDurableOnlyItsOwnSectorsAndTheSizeToReadThem) {
  const auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, sector('x')));
  ASSERT_TRUE(write(*file, 512, sector('y'), true));
  ASSERT_TRUE(write(*file, 1024, sector('z')));
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(contents("a"), std::string(512, '\0') + sector('y'));
}

TEST_F(SimulatedDiskTest, ADurableWriteCarriesTheWholeSectorsItTouches) {
  const auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, "abc"));
  ASSERT_TRUE(write(*file, 3, "def", true));
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(contents("a"), "abcdef");
}

TEST_F(SimulatedDiskTest, AWriteInTwoPiecesIsOne) {
  const auto file = make_named("a");
  ASSERT_TRUE(file->write_at(1, as_byte_view("abc"), as_byte_view("def"), true));
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(contents("a"), std::string(1, '\0') + "abcdef");
}

TEST_F(SimulatedDiskTest, UnsyncedSectorsAreEachKeptOrLostOnTheirOwn) {
  const auto seen = outcomes(
      [&] {
        const auto file = make_named("a");
        ASSERT_TRUE(write(*file, 0, sector('o') + sector('o')));
        ASSERT_TRUE(file->sync());
        ASSERT_TRUE(write(*file, 0, sector('n') + sector('n')));
      },
      [&] { return *contents("a"); });
  EXPECT_EQ(seen, (std::set{sector('o') + sector('o'), sector('o') + sector('n'),
                            sector('n') + sector('o'), sector('n') + sector('n')}));
}

TEST_F(SimulatedDiskTest, SectorsMayBeWholePages) {
  use({.sector_bytes = 4096});
  const auto seen = outcomes(
      [&] {
        const auto file = make_named("a");
        ASSERT_TRUE(write(*file, 0, blocks('o')));
        ASSERT_TRUE(file->sync());
        ASSERT_TRUE(write(*file, 0, blocks('n')));
      },
      [&] { return *contents("a"); });
  EXPECT_EQ(seen, (std::set{blocks('o'), blocks('n')}));
}

TEST_F(SimulatedDiskTest, AVersionWrittenInBetweenMayComeUp) {
  const auto seen = outcomes(
      [&] {
        const auto file = make_named("a");
        ASSERT_TRUE(write(*file, 0, sector('1')));
        ASSERT_TRUE(file->sync());
        ASSERT_TRUE(write(*file, 0, sector('2')));
        ASSERT_TRUE(write(*file, 0, sector('3')));
      },
      [&] { return *contents("a"); });
  EXPECT_EQ(seen, (std::set{sector('1'), sector('2'), sector('3')}));
}

TEST_F(SimulatedDiskTest, AVersionFromBeforeASyncNeverComesUp) {
  const auto seen = outcomes(
      [&] {
        const auto file = make_named("a");
        ASSERT_TRUE(write(*file, 0, sector('1')));
        ASSERT_TRUE(write(*file, 0, sector('2')));
        ASSERT_TRUE(file->sync());
        ASSERT_TRUE(write(*file, 512, sector('3')));
      },
      [&] { return contents("a")->substr(0, 512); });
  EXPECT_EQ(seen, std::set{sector('2')});
}

TEST_F(SimulatedDiskTest, SectorsAreTornOnlyWhenAskedFor) {
  const auto prepare = [&] {
    reopen();
    const auto file = make_named("a");
    ASSERT_TRUE(write(*file, 0, sector('o')));
    ASSERT_TRUE(file->sync());
    ASSERT_TRUE(write(*file, 0, sector('n')));
  };
  const auto observe = [&] { return *contents("a"); };
  EXPECT_EQ(outcomes(prepare, observe).size(), 2U);
  const auto torn = outcomes(prepare, observe, {.torn_sectors = true}, 1000);
  EXPECT_GT(torn.size(), 20U);
  for (const auto& text : torn) {
    EXPECT_EQ(
        text.substr(text.find_first_not_of('n') == std::string::npos ? 512
                                                                     : text.find_first_not_of('n'))
            .find('n'),
        std::string::npos)
        << "new bytes are a prefix";
  }
}

TEST_F(SimulatedDiskTest, ATornSectorLeavesItsNeighboursAlone) {
  const auto seen = outcomes(
      [&] {
        const auto file = make_named("a");
        ASSERT_TRUE(write(*file, 0, sector('o') + sector('o')));
        ASSERT_TRUE(file->sync());
        ASSERT_TRUE(write(*file, 0, sector('n') + sector('n')));
      },
      [&] { return *contents("a"); }, {.torn_sectors = true}, 1000);
  const auto torn_beside = [&](const std::string& neighbour) {
    return std::ranges::any_of(seen, [&](const std::string& text) {
      return text[0] == 'n' && text[511] == 'o' && text.substr(512) == neighbour;
    });
  };
  EXPECT_TRUE(torn_beside(sector('n')));
  EXPECT_TRUE(torn_beside(sector('o')));
}

TEST_F(SimulatedDiskTest, WhatSurvivesAPowerCutIsDurable) {
  const auto file = make("a");
  ASSERT_TRUE(write(*file, 0, "hello"));
  disk_->power_cut(1, kKeepAll);
  disk_->power_cut(2, kLoseAll);
  EXPECT_EQ(contents("a"), "hello");
}

TEST_F(SimulatedDiskTest, SizeAndDataAreKeptOrLostIndependently) {
  const auto seen = outcomes(
      [&] {
        const auto file = make_named("a");
        ASSERT_TRUE(write(*file, 0, sector('x')));
      },
      [&] { return *contents("a"); });
  EXPECT_EQ(seen, (std::set{std::string(), sector('\0'), sector('x')}));
}

TEST_F(SimulatedDiskTest, DataKeptBehindALostSizeIsGoneForGood) {
  const auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, "abc", true));
  ASSERT_TRUE(write(*file, 3, sector('x') + sector('x')));
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const auto copy = disk_->clone();
    copy->power_cut(seed);
    if (copy->read_file("log/a")->size() == 3) {
      const auto directory = *copy->open_directory("log", false);
      const auto again = *directory->open("a", Access::write_buffered, Creation::existing);
      ASSERT_TRUE(again->truncate(600));
      EXPECT_EQ(as_text(*copy->read_file("log/a")), "abc" + std::string(597, '\0'));
    }
  }
}

TEST_F(SimulatedDiskTest, AnUnsyncedTruncationMayBeUndone) {
  const auto seen = outcomes(
      [&] {
        const auto file = make_named("a");
        ASSERT_TRUE(write(*file, 0, blocks('x', 2)));
        ASSERT_TRUE(file->sync());
        ASSERT_TRUE(file->truncate(kBlock));
      },
      [&] { return contents("a")->size(); });
  EXPECT_EQ(seen, (std::set<std::size_t>{kBlock, 2 * kBlock}));
}

TEST_F(SimulatedDiskTest, ASyncedTruncationIsNotUndoneByGrowingAgain) {
  const auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, blocks('x', 2)));
  ASSERT_TRUE(file->sync());
  ASSERT_TRUE(file->truncate(10));
  ASSERT_TRUE(file->sync());
  ASSERT_TRUE(file->truncate(kBlock));
  ASSERT_TRUE(file->sync());
  disk_->power_cut(1);
  EXPECT_EQ(contents("a"), std::string(10, 'x') + std::string(kBlock - 10, '\0'));
}

TEST_F(SimulatedDiskTest, AllocatedSpaceReadsAsZerosAndExtendsTheSize) {
  const auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, "abc"));
  ASSERT_TRUE(file->allocate(0, 10));
  EXPECT_EQ(file->size(), 10U);
  ASSERT_TRUE(file->allocate(0, 5));
  EXPECT_EQ(file->size(), 10U);
  EXPECT_EQ(contents("a"), "abc" + std::string(7, '\0'));
}

// Goal: no drawn state contradicts what was promised.
// Method: random writes, syncs, truncations against a model that keeps, for each sector, every
// content it may have after a power cut, and every size.
TEST_F(SimulatedDiskTest, RandomHistoriesSurviveAsTheModelAllows) {
  constexpr std::size_t kSector = 512;
  constexpr std::size_t kSectors = 40;
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    use({.seed = seed});
    Random random(seed);
    const auto file = make_named("a");
    std::string current;
    std::vector<std::set<std::string>> allowed(kSectors, {sector('\0')});
    std::set<std::size_t> sizes{0};
    const auto sector_of = [&](std::size_t index) {
      auto text = index * kSector < current.size() ? current.substr(index * kSector, kSector) : "";
      text.resize(kSector);
      return text;
    };
    for (int step = 0; step < 40; ++step) {
      const auto kind = random.below(10);
      if (kind < 7) {
        const auto offset = static_cast<std::size_t>(random.below(kSectors * kSector - 3000));
        const auto bytes = static_cast<std::size_t>(1 + random.below(3000));
        const bool durable = random.chance(64);
        const std::string text(bytes, static_cast<char>('a' + step % 26));
        ASSERT_TRUE(write(*file, offset, text, durable));
        current.resize(std::max(current.size(), offset + bytes));
        current.replace(offset, bytes, text);
        sizes.insert(current.size());
        for (auto index = offset / kSector; index <= (offset + bytes - 1) / kSector; ++index) {
          if (durable) {
            allowed[index].clear();
          }
          allowed[index].insert(sector_of(index));
        }
        if (durable) {
          std::erase_if(sizes, [&](std::size_t size) { return size < offset + bytes; });
          sizes.insert(offset + bytes);
        }
      } else if (kind < 8) {
        const auto bytes = static_cast<std::size_t>(random.below(kSectors * kSector));
        ASSERT_TRUE(file->truncate(bytes));
        current.resize(bytes);
        sizes.insert(bytes);
        for (auto index = bytes / kSector; index < kSectors; ++index) {
          allowed[index].insert(sector_of(index));
        }
      } else if (kind < 9) {
        ASSERT_TRUE(file->sync());
        sizes = {current.size()};
        for (std::size_t index = 0; index < kSectors; ++index) {
          allowed[index] = {sector_of(index)};
        }
      }
      ASSERT_EQ(contents("a"), current);
      for (std::uint64_t cut = 0; cut < 4; ++cut) {
        const auto copy = disk_->clone();
        copy->power_cut(random.next(), cut == 0 ? kLoseAll : PowerCutOptions{});
        auto left = std::string(as_text(*copy->read_file("log/a")));
        ASSERT_TRUE(sizes.contains(left.size())) << "seed " << seed << " step " << step;
        for (std::size_t index = 0; index * kSector < left.size(); ++index) {
          const auto text = left.substr(index * kSector, kSector);
          ASSERT_TRUE(std::ranges::any_of(
              allowed[index], [&](const std::string& other) { return other.starts_with(text); }))
              << "seed " << seed << " step " << step << " sector " << index;
        }
      }
    }
  }
}

// --- Names

TEST_F(SimulatedDiskTest, SyncingAFileDoesNotMakeItsNameDurable) {
  const auto file = make("a");
  ASSERT_TRUE(write(*file, 0, "hello", true));
  ASSERT_TRUE(file->sync());
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(contents("a"), std::nullopt);
}

TEST_F(SimulatedDiskTest, SyncingTheDirectoryMakesANameDurable) {
  const auto file = make_named("a");
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(contents("a"), "");
}

TEST_F(SimulatedDiskTest, UnsyncedNamesAreEachKeptOrLostOnTheirOwn) {
  const auto seen = outcomes(
      [&] {
        make("a");
        make("b");
      },
      [&] { return *disk_->list_files("log"); });
  using Names = std::vector<std::string>;
  EXPECT_EQ(seen, (std::set<Names>{{}, {"a"}, {"b"}, {"a", "b"}}));
}

TEST_F(SimulatedDiskTest, AnUnsyncedRemovalMayBeUndone) {
  const auto prepare = [&] {
    reopen();
    ASSERT_TRUE(write(*make_named("a"), 0, "hello", true));
    ASSERT_TRUE(directory_->remove("a"));
    EXPECT_EQ(contents("a"), std::nullopt);
  };
  const auto seen = outcomes(prepare, [&] { return contents("a"); });
  EXPECT_EQ(seen, (std::set<std::optional<std::string>>{std::nullopt, "hello"}));
}

TEST_F(SimulatedDiskTest, AnUnsyncedRenameLeavesTheOldNameTheNewOneOrBoth) {
  const auto seen = outcomes(
      [&] {
        ASSERT_TRUE(write(*make_named("old"), 0, "text", true));
        ASSERT_TRUE(directory_->rename("old", "new"));
      },
      [&] { return std::pair(contents("old"), contents("new")); });
  using Pair = std::pair<std::optional<std::string>, std::optional<std::string>>;
  EXPECT_EQ(seen,
            (std::set<Pair>{{"text", std::nullopt}, {std::nullopt, "text"}, {"text", "text"}}));
}

TEST_F(SimulatedDiskTest, AnUnsyncedReplacingRenameNeverLosesBothFiles) {
  const auto seen = outcomes(
      [&] {
        ASSERT_TRUE(write(*make_named("old"), 0, "newer", true));
        ASSERT_TRUE(write(*make_named("new"), 0, "older", true));
        ASSERT_TRUE(directory_->rename("old", "new"));
      },
      [&] { return std::pair(contents("old"), contents("new")); });
  using Pair = std::pair<std::optional<std::string>, std::optional<std::string>>;
  EXPECT_EQ(seen,
            (std::set<Pair>{{"newer", "older"}, {std::nullopt, "newer"}, {"newer", "newer"}}));
}

TEST_F(SimulatedDiskTest, AFileThatWasNeverSyncedByNameMayVanishInARename) {
  const auto seen = outcomes(
      [&] {
        ASSERT_TRUE(write(*make_named("a"), 0, "older", true));
        ASSERT_TRUE(write(*make("tmp"), 0, "newer", true));
        ASSERT_TRUE(directory_->rename("tmp", "a"));
      },
      [&] { return *contents("a"); });
  EXPECT_EQ(seen, (std::set<std::string>{"older", "newer"}));
}

TEST_F(SimulatedDiskTest, AChainOfRenamesNeverLosesTheFile) {
  const auto seen = outcomes(
      [&] {
        ASSERT_TRUE(write(*make_named("a"), 0, "text", true));
        ASSERT_TRUE(directory_->rename("a", "b"));
        ASSERT_TRUE(directory_->rename("b", "c"));
      },
      [&] { return disk_->list_files("log")->size(); });
  EXPECT_FALSE(seen.contains(0));
}

TEST_F(SimulatedDiskTest, AMoveBetweenDirectoriesNeverLosesTheFile) {
  const auto seen = outcomes(
      [&] {
        ASSERT_TRUE(write(*make_named("a"), 0, "text", true));
        const auto aside = *directory_->subdirectory("quarantine");
        ASSERT_TRUE(directory_->move_to("a", *aside, "b"));
        ASSERT_TRUE(aside->sync());
      },
      [&] { return std::pair(contents("a").has_value(), contents("quarantine/b").has_value()); });
  EXPECT_FALSE(seen.contains({false, false}));
  EXPECT_TRUE(seen.contains({false, true}));
  EXPECT_TRUE(seen.contains({true, false}));
}

TEST_F(SimulatedDiskTest, RenamingOneNameOfAFileToAnotherOfItDoesNothing) {
  ASSERT_TRUE(write(*make_named("old"), 0, "text", true));
  ASSERT_TRUE(directory_->rename("old", "new"));
  const auto before = disk_->clone();
  for (std::uint64_t seed = 0;; ++seed) {
    ASSERT_LT(seed, 300U);
    disk_ = before->clone();
    disk_->power_cut(seed);
    if (contents("old") && contents("new")) {
      break;
    }
  }
  reopen();
  ASSERT_EQ(*directory_->id_of("old"), *directory_->id_of("new"));
  ASSERT_TRUE(directory_->rename("old", "new"));
  EXPECT_EQ(contents("old"), "text");
}

TEST_F(SimulatedDiskTest, DirectoriesThatOpenDirectoryMakesAreDurable) {
  ASSERT_TRUE(disk_->open_directory("deep/er/still", true));
  disk_->power_cut(1, kLoseAll);
  EXPECT_TRUE(disk_->open_directory("/deep/er/still", false));
}

TEST_F(SimulatedDiskTest, ASubdirectoryIsDurableOnceItsParentIsSynced) {
  const auto one = *directory_->subdirectory("one");
  ASSERT_TRUE(directory_->sync());
  const auto two = *directory_->subdirectory("two");
  ASSERT_TRUE(two->sync());
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(*disk_->list_files("log"), std::vector<std::string>{"one/"});
}

TEST_F(SimulatedDiskTest, OpeningASubdirectoryMakesNone) {
  const auto operations = disk_->operations();
  const auto missing = directory_->open_subdirectory("sub");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::io);
  EXPECT_EQ(missing.error().system_errno, ENOENT);
  EXPECT_EQ(disk_->operations(), operations);
  ASSERT_TRUE(directory_->subdirectory("sub"));
  EXPECT_TRUE(directory_->open_subdirectory("sub"));
  make("file");
  EXPECT_EQ(directory_->open_subdirectory("file").error().system_errno, ENOTDIR);
}

TEST_F(SimulatedDiskTest, WhatWasInALostDirectoryIsLost) {
  const auto sub = *directory_->subdirectory("sub");
  const auto file = *sub->open("a", Access::write_buffered, Creation::replace);
  ASSERT_TRUE(write(*file, 0, "text", true));
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(contents("sub/a"), std::nullopt);
}

TEST_F(SimulatedDiskTest, AMissingDirectoryIsNotALog) {
  const auto missing = disk_->open_directory("missing", false);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::not_a_log);
  EXPECT_EQ(missing.error().system_errno, ENOENT);
}

TEST_F(SimulatedDiskTest, NamesThatLeadNowhereAnswerEnoent) {
  EXPECT_EQ(directory_->id_of("a").error().system_errno, ENOENT);
  EXPECT_EQ(directory_->open("a", Access::read, Creation::existing).error().system_errno, ENOENT);
  EXPECT_EQ(directory_->rename("a", "b").error().system_errno, ENOENT);
  EXPECT_EQ(directory_->remove("a").error().system_errno, ENOENT);
  EXPECT_EQ(directory_->map("a").error().system_errno, ENOENT);
  EXPECT_EQ(directory_->map("a").error().code, ErrorCode::io);
}

TEST_F(SimulatedDiskTest, ReplacingGivesTheNameToANewFile) {
  const auto before = make("a");
  ASSERT_TRUE(write(*before, 0, "text"));
  const auto after = make("a");
  EXPECT_NE(after->id(), before->id());
  EXPECT_EQ(contents("a"), "");
  EXPECT_EQ(directory_->id_of("a"), after->id());
  std::string text(4, '-');
  EXPECT_EQ(before->read_at(0, std::as_writable_bytes(std::span(text))), 4U);
  EXPECT_EQ(text, "text");
}

TEST_F(SimulatedDiskTest, ARemovedFileStaysReadableToWhoeverHoldsIt) {
  const auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, "text"));
  ASSERT_TRUE(directory_->remove("a"));
  ASSERT_TRUE(directory_->sync());
  std::string text(4, '-');
  EXPECT_EQ(file->read_at(0, std::as_writable_bytes(std::span(text))), 4U);
  EXPECT_EQ(text, "text");
  const auto again = make("a");
  EXPECT_NE(again->id(), file->id());
}

// --- Crashes

TEST_F(SimulatedDiskTest, AProcessCrashKeepsWhatWasSeenButStaysUnsynced) {
  ASSERT_TRUE(write(*make("a"), 0, "text"));
  disk_->crash_process();
  EXPECT_EQ(contents("a"), "text");
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(contents("a"), std::nullopt);
}

TEST_F(SimulatedDiskTest, HandlesOfACrashedProcessAnswerErrorsAndChangeNothing) {
  const auto file = make("a");
  ASSERT_TRUE(write(*file, 0, "text"));
  const auto old_directory = std::move(directory_);
  disk_->crash_process();
  for (const auto& result :
       {write(*file, 0, "TEXT"), file->sync(), file->truncate(0), file->allocate(0, 99),
        old_directory->remove("a"), old_directory->rename("a", "b"), old_directory->sync()}) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, ErrorCode::io);
    EXPECT_NE(result.error().message.find("process crashed"), std::string::npos);
  }
  EXPECT_FALSE(file->size());
  EXPECT_FALSE(old_directory->list());
  EXPECT_FALSE(old_directory->open("c", Access::read, Creation::replace));
  EXPECT_EQ(contents("a"), "text");
  EXPECT_EQ(disk_->list_files("log")->size(), 1U);
}

TEST_F(SimulatedDiskTest, TheDiskDiesAfterSoManyOperations) {
  const auto file = make_named("a");
  const auto before = disk_->operations();
  disk_->crash_after(2);
  EXPECT_TRUE(write(*file, 0, "one"));
  EXPECT_TRUE(file->sync());
  EXPECT_FALSE(disk_->dead());
  EXPECT_FALSE(write(*file, 3, "two"));
  EXPECT_TRUE(disk_->dead());
  EXPECT_EQ(disk_->operations(), before + 3);
  EXPECT_FALSE(file->size());
  EXPECT_FALSE(disk_->open_directory("log", false));
  disk_->power_cut(1, kLoseAll);
  EXPECT_FALSE(disk_->dead());
  EXPECT_EQ(contents("a"), "one");
  reopen();
}

TEST_F(SimulatedDiskTest, TheWriteThatTheDiskDiesInIsNoneSomeOrAllOfItsSectors) {
  std::set<std::string> seen;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    use({.seed = seed});
    const auto file = make_named("a");
    disk_->crash_after(0);
    EXPECT_FALSE(write(*file, 0, sector('x') + sector('x'), true));
    disk_->crash_process();
    seen.insert(*contents("a"));
    const auto copy = disk_->clone();
    copy->power_cut(1, kLoseAll);
    EXPECT_EQ(copy->read_file("log/a")->size(), 0U) << "a write that did not return is not durable";
  }
  EXPECT_EQ(seen, (std::set{std::string(), sector('x'), sector('x') + sector('x')}));
}

TEST_F(SimulatedDiskTest, TheOperationThatTheDiskDiesInMayOrMayNotTakeEffect) {
  std::set<std::vector<std::string>> seen;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    use({.seed = seed});
    make_named("a");
    disk_->crash_after(0);
    EXPECT_FALSE(directory_->rename("a", "b"));
    disk_->crash_process();
    seen.insert(*disk_->list_files("log"));
  }
  EXPECT_EQ(seen, (std::set<std::vector<std::string>>{{"a"}, {"b"}}));
}

TEST_F(SimulatedDiskTest, ACrashDisarmsTheNextOne) {
  disk_->crash_after(0);
  disk_->crash_process();
  reopen();
  EXPECT_TRUE(directory_->open("a", Access::read, Creation::replace));
}

TEST_F(SimulatedDiskTest, TheSameSeedRepeatsTheSameRun) {
  const auto run = [](std::uint64_t seed) {
    SimulatedDisk disk(seed);
    const auto directory = *disk.open_directory("log", true);
    const auto file = *directory->open("a", Access::write_buffered, Creation::replace);
    EXPECT_TRUE(directory->sync());
    for (std::uint64_t i = 0; i < 50; ++i) {
      EXPECT_TRUE(write(*file, i * 300, std::string(700, static_cast<char>('a' + i % 26))));
    }
    disk.power_cut(seed);
    return std::pair(std::string(as_text(*disk.read_file("log/a"))), disk.random_bits());
  };
  EXPECT_EQ(run(7), run(7));
  EXPECT_NE(run(7), run(8));
}

TEST_F(SimulatedDiskTest, RandomBitsDoNotRepeatAfterACrash) {
  std::set<std::uint64_t> drawn;
  for (int crash = 0; crash < 100; ++crash) {
    EXPECT_TRUE(drawn.insert(disk_->random_bits()).second);
    disk_->power_cut(1);
  }
}

// --- Locks

TEST_F(SimulatedDiskTest, ALockedFileNamesItsHolder) {
  const auto held = directory_->lock("lock", "process 42");
  ASSERT_TRUE(held);
  const auto other = directory_->lock("lock", "process 43");
  ASSERT_FALSE(other);
  EXPECT_EQ(other.error().code, ErrorCode::locked);
  EXPECT_NE(other.error().message.find("process 42"), std::string::npos);
  EXPECT_EQ(contents("lock"), "process 42");
}

TEST_F(SimulatedDiskTest, ALockEndsWithItsHandleAndWithTheProcess) {
  {
    const auto held = directory_->lock("lock", "one");
  }
  auto held = directory_->lock("lock", "two");
  ASSERT_TRUE(held);
  disk_->crash_process();
  reopen();
  const auto next = directory_->lock("lock", "three");
  ASSERT_TRUE(next);
  held->reset();
  EXPECT_FALSE(directory_->lock("lock", "four")) << "a dead handle releases nobody else's lock";
}

TEST_F(SimulatedDiskTest, LockFilesDoNotCountAsOperations) {
  const auto before = disk_->operations();
  const auto held = directory_->lock("lock", "one");
  EXPECT_EQ(disk_->operations(), before);
}

// --- Mappings

class SimulatedMappingTest : public SimulatedDiskTest {
 protected:
  void map_ring(std::size_t blocks_count, SimulatedDiskOptions options = {}) {
    use(std::move(options));
    const auto file = make_named("ring");
    ASSERT_TRUE(write(*file, 0, blocks('0', blocks_count)));
    ASSERT_TRUE(file->sync());
    mapping_ = std::move(*directory_->map("ring"));
  }
  void store(std::size_t offset, std::string_view text) {
    std::memcpy(mapping_->bytes().data() + offset, text.data(), text.size());
  }
  std::unique_ptr<io::Mapping> mapping_;
};

TEST_F(SimulatedMappingTest, StoresAreSeenByReaders) {
  map_ring(2);
  mapping_->populate();
  store(kBlock - 2, "abcd");
  EXPECT_EQ(contents("ring")->substr(kBlock - 3, 6), "0abcd0");
  const auto file = *directory_->open("ring", Access::read, Creation::existing);
  std::string text(4, '-');
  EXPECT_EQ(file->read_at(kBlock - 2, std::as_writable_bytes(std::span(text))), 4U);
  EXPECT_EQ(text, "abcd");
}

TEST_F(SimulatedMappingTest, WritesToTheFileAreSeenInTheMapping) {
  map_ring(1);
  const auto file = *directory_->open("ring", Access::write_buffered, Creation::existing);
  ASSERT_TRUE(write(*file, 5, "abc"));
  EXPECT_EQ(as_text(mapping_->bytes().subspan(4, 5)), "0abc0");
}

TEST_F(SimulatedMappingTest, StoresSurviveTheProcess) {
  map_ring(1);
  store(0, "abc");
  disk_->crash_process();
  EXPECT_EQ(contents("ring")->substr(0, 4), "abc0");
}

TEST_F(SimulatedMappingTest, StoresAfterACrashReachNobody) {
  map_ring(1);
  disk_->crash_process();
  store(0, "abc");
  EXPECT_EQ(*contents("ring"), blocks('0'));
  reopen();
  const auto next = *directory_->map("ring");
  EXPECT_EQ(as_text(next->bytes()), blocks('0'));
}

TEST_F(SimulatedMappingTest, StoresSurviveTheEndOfTheMapping) {
  map_ring(1);
  store(0, "abc");
  mapping_.reset();
  EXPECT_EQ(contents("ring")->substr(0, 4), "abc0");
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(*contents("ring"), blocks('0'));
}

TEST_F(SimulatedMappingTest, EachPageIsKeptOrLostAsOne) {
  const auto prepare = [&] {
    map_ring(2, {.operations_per_write_back = 0});
    store(0, blocks('n', 2));
  };
  const auto observe = [&] { return *contents("ring"); };
  EXPECT_EQ(outcomes(prepare, observe), (std::set{blocks('0', 2), blocks('0') + blocks('n'),
                                                  blocks('n') + blocks('0'), blocks('n', 2)}));
}

TEST_F(SimulatedMappingTest, APageIsSplitAtSectorsWhenAskedFor) {
  const auto seen = outcomes(
      [&] {
        map_ring(1);
        store(0, blocks('n'));
      },
      [&] { return *contents("ring"); }, {.split_mapped_pages = true});
  EXPECT_GT(seen.size(), 20U);
}

TEST_F(SimulatedMappingTest, APageMayGoBackToWhatTheKernelWroteInBetween) {
  const auto seen = outcomes(
      [&] {
        map_ring(1);
        store(0, blocks('1'));
        disk_->writeback();
        store(0, blocks('2'));
      },
      [&] { return contents("ring")->front(); });
  EXPECT_EQ(seen, (std::set{'0', '1', '2'}));
}

TEST_F(SimulatedMappingTest, TheKernelWritesBackNowAndThen) {
  const auto seen = outcomes(
      [&] {
        map_ring(1);
        const auto file = make("other");
        for (char letter = 'a'; letter <= 'z'; ++letter) {
          store(0, blocks(letter));
          ASSERT_TRUE(write(*file, 0, "x"));
        }
      },
      [&] { return contents("ring")->front(); });
  EXPECT_GT(seen.size(), 2U);
}

TEST_F(SimulatedMappingTest, SyncingTheFileMakesStoresDurable) {
  map_ring(2);
  store(kBlock, "abc");
  const auto file = *directory_->open("ring", Access::write_buffered, Creation::existing);
  ASSERT_TRUE(file->sync());
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(contents("ring")->substr(kBlock, 4), "abc0");
}

TEST_F(SimulatedMappingTest, MappingAFileWithHolesIsNoticed) {
  map_ring(1);
  EXPECT_FALSE(disk_->mapped_holes_seen());
  ASSERT_TRUE(make("sparse")->truncate(kBlock));
  EXPECT_TRUE(directory_->map("sparse"));
  EXPECT_TRUE(disk_->mapped_holes_seen());
}

TEST_F(SimulatedMappingTest, MappingIsRefusedWhereTheTraitsSaySo) {
  use({.traits = {.mapping_allowed = false, .file_system_name = "btrfs"}});
  ASSERT_TRUE(write(*make("ring"), 0, "x"));
  EXPECT_FALSE(directory_->traits().mapping_allowed);
  EXPECT_EQ(directory_->map("ring").error().system_errno, ENODEV);
}

// --- Faults

TEST_F(SimulatedDiskTest, TheNthOperationOfAKindFailsOnce) {
  const auto file = make("a");
  disk_->fail_nth(Operation::sync, 1, EIO);
  EXPECT_TRUE(file->sync());
  EXPECT_TRUE(write(*file, 0, "x"));
  EXPECT_EQ(file->sync().error().system_errno, EIO);
  EXPECT_TRUE(file->sync());
  EXPECT_EQ(disk_->faults_hit(), 1U);
}

TEST_F(SimulatedDiskTest, AFaultMayStayForEverUntilCleared) {
  const auto file = make("a");
  disk_->fail_nth({Operation::write, Operation::allocate}, 0, ENOSPC, Repeat::forever);
  EXPECT_EQ(write(*file, 0, "x").error().code, ErrorCode::no_space);
  EXPECT_EQ(write(*file, 0, "x", true).error().code, ErrorCode::no_space);
  EXPECT_EQ(file->allocate(0, 1).error().code, ErrorCode::no_space);
  disk_->clear_faults();
  EXPECT_TRUE(write(*file, 0, "x"));
}

TEST_F(SimulatedDiskTest, EveryKindOfOperationCanFail) {
  const auto fails = [&](Operation operation, auto&& call) {
    disk_->fail_nth(operation, 0, EDQUOT);
    const auto result = call();
    EXPECT_FALSE(result) << operation_name(operation);
    EXPECT_EQ(result.error().code, ErrorCode::no_space) << operation_name(operation);
    EXPECT_TRUE(call()) << operation_name(operation);
  };
  const auto file = make("a");
  ASSERT_TRUE(write(*file, 0, blocks('x')));
  std::byte byte{};
  fails(Operation::open, [&] { return directory_->open("a", Access::read, Creation::existing); });
  fails(Operation::read, [&] { return file->read_at(0, ByteSpan(&byte, 1)); });
  ASSERT_TRUE(directory_->subdirectory("there"));
  fails(Operation::open, [&] { return directory_->open_subdirectory("there"); });
  fails(Operation::list, [&] { return directory_->list(); });
  fails(Operation::map, [&] { return directory_->map("a"); });
  fails(Operation::lock, [&] { return directory_->lock("l", "me"); });
  fails(Operation::write, [&] { return write(*file, 0, "x"); });
  fails(Operation::durable_write, [&] { return write(*file, 0, "x", true); });
  fails(Operation::sync, [&] { return file->sync(); });
  fails(Operation::allocate, [&] { return file->allocate(0, 1); });
  fails(Operation::truncate, [&] { return file->truncate(0); });
  fails(Operation::create, [&] { return directory_->open("b", Access::read, Creation::replace); });
  fails(Operation::create, [&] { return directory_->subdirectory("c"); });
  fails(Operation::rename, [&] { return directory_->rename("b", "b"); });
  fails(Operation::directory_sync, [&] { return directory_->sync(); });
  disk_->fail_nth(Operation::remove, 0, EACCES);
  EXPECT_EQ(directory_->remove("b").error().code, ErrorCode::permission);
  EXPECT_TRUE(directory_->remove("b"));
}

TEST_F(SimulatedDiskTest, AFaultMayBeOfOneFileOnly) {
  disk_->inject({.operations = Operation::write, .name_suffix = ".wal"});
  EXPECT_TRUE(write(*make("a"), 0, "x"));
  EXPECT_FALSE(write(*make("0.wal"), 0, "x"));
}

TEST_F(SimulatedDiskTest, AFailedWriteLeavesAPrefixOfItsSectors) {
  std::set<std::string> seen;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    use({.seed = seed});
    const auto file = make("a");
    disk_->fail_nth(Operation::write, 0, EIO);
    EXPECT_FALSE(write(*file, 0, sector('x') + sector('x'), true));
    seen.insert(*contents("a"));
  }
  EXPECT_EQ(seen, (std::set{std::string(), sector('x'), sector('x') + sector('x')}));
}

TEST_F(SimulatedDiskTest, AFailedWriteSplitsNoSector) {
  std::set<std::size_t> seen;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    use({.seed = seed});
    const auto file = make("a");
    disk_->fail_nth(Operation::write, 0, EIO);
    EXPECT_FALSE(write(*file, 100, std::string(1000, 'x')));
    seen.insert(contents("a")->size());
  }
  EXPECT_EQ(seen, (std::set<std::size_t>{0, 512, 1024, 1100}));
}

TEST_F(SimulatedDiskTest, AFailedFlushOfADurableWriteLeavesItsBytesUnsynced) {
  const auto file = make_named("a");
  disk_->fail_nth(Operation::durable_write, 0, EIO);
  EXPECT_FALSE(write(*file, 0, "text", true));
  EXPECT_EQ(contents("a"), "text");
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(contents("a"), "");
}

TEST_F(SimulatedDiskTest, AFailedSyncMakesNothingDurable) {
  const auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, "text"));
  disk_->fail_nth(Operation::sync, 0, EIO);
  EXPECT_FALSE(file->sync());
  EXPECT_EQ(contents("a"), "text");
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(contents("a"), "");
}

TEST_F(SimulatedDiskTest, WhatAFailedSyncDroppedNoLaterSyncWrites) {
  const auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, sector('x')));
  disk_->fail_nth(Operation::sync, 0, EIO, Repeat::once, true);
  EXPECT_FALSE(file->sync());
  EXPECT_EQ(contents("a"), sector('x'));
  ASSERT_TRUE(write(*file, 512, sector('y')));
  EXPECT_TRUE(file->sync());
  disk_->power_cut(1, kKeepAll);
  EXPECT_EQ(contents("a"), sector('\0') + sector('y'));
}

TEST_F(SimulatedDiskTest, WritingDroppedBytesAgainMakesThemUnsyncedAgain) {
  const auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, sector('x')));
  disk_->fail_nth(Operation::sync, 0, EIO, Repeat::once, true);
  EXPECT_FALSE(file->sync());
  ASSERT_TRUE(write(*file, 0, sector('x')));
  EXPECT_TRUE(file->sync());
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(contents("a"), sector('x'));
}

TEST_F(SimulatedDiskTest, DroppedPagesMayBeForgotten) {
  const auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, sector('o')));
  ASSERT_TRUE(file->sync());
  ASSERT_TRUE(write(*file, 0, sector('n')));
  disk_->fail_nth(Operation::sync, 0, EIO, Repeat::once, true);
  EXPECT_FALSE(file->sync());
  EXPECT_EQ(contents("a"), sector('n'));
  disk_->forget_dropped_pages();
  EXPECT_EQ(contents("a"), sector('o'));
  disk_->power_cut(3);
  EXPECT_EQ(contents("a"), sector('o'));
}

// --- Space

TEST_F(SimulatedDiskTest, WritesBeyondTheCapacityAnswerNoSpace) {
  disk_->set_capacity_bytes(2 * kBlock);
  const auto file = make("a");
  EXPECT_TRUE(write(*file, 0, blocks('x')));
  EXPECT_EQ(disk_->free_bytes(), kBlock);
  EXPECT_EQ(write(*file, kBlock, blocks('x', 2)).error().code, ErrorCode::no_space);
  EXPECT_EQ(contents("a"), blocks('x', 2)) << "what found room was written";
  EXPECT_TRUE(write(*file, 0, blocks('y', 2))) << "allocated blocks can be written";
}

TEST_F(SimulatedDiskTest, AllocationBeyondTheCapacityLeavesTheSize) {
  disk_->set_capacity_bytes(2 * kBlock);
  const auto file = make("a");
  EXPECT_EQ(file->allocate(0, 3 * kBlock).error().code, ErrorCode::no_space);
  EXPECT_EQ(file->size(), 0U);
  EXPECT_EQ(disk_->free_bytes(), 2 * kBlock);
  EXPECT_TRUE(file->allocate(0, 2 * kBlock));
  EXPECT_EQ(disk_->free_bytes(), 0U);
}

TEST_F(SimulatedDiskTest, HolesTakeSpaceOnlyWhenWritten) {
  disk_->set_capacity_bytes(kBlock);
  const auto file = make("a");
  ASSERT_TRUE(file->truncate(10 * kBlock));
  EXPECT_EQ(disk_->free_bytes(), kBlock);
  EXPECT_TRUE(write(*file, 5 * kBlock, "x"));
  EXPECT_EQ(write(*file, 0, "x").error().system_errno, ENOSPC);
}

TEST_F(SimulatedDiskTest, ARemovedFileFreesItsSpaceWhenItIsClosed) {
  disk_->set_capacity_bytes(kBlock);
  auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, "x"));
  ASSERT_TRUE(directory_->remove("a"));
  EXPECT_EQ(disk_->free_bytes(), 0U);
  file.reset();
  EXPECT_EQ(disk_->free_bytes(), kBlock);
}

TEST_F(SimulatedDiskTest, TruncationFreesSpace) {
  disk_->set_capacity_bytes(2 * kBlock);
  const auto file = make("a");
  ASSERT_TRUE(file->allocate(0, 2 * kBlock));
  ASSERT_TRUE(file->truncate(1));
  EXPECT_EQ(disk_->free_bytes(), kBlock);
}

TEST_F(SimulatedDiskTest, UnsyncedAllocationMayBecomeHolesAgain) {
  disk_->set_capacity_bytes(4 * kBlock);
  const auto seen = outcomes([&] { ASSERT_TRUE(make_named("a")->allocate(0, 2 * kBlock)); },
                             [&] { return std::pair(contents("a")->size(), disk_->free_bytes()); });
  EXPECT_TRUE(seen.contains({2 * kBlock, 4 * kBlock}));
  EXPECT_TRUE(seen.contains({2 * kBlock, 2 * kBlock}));
  EXPECT_TRUE(seen.contains({0, 4 * kBlock}));
}

TEST_F(SimulatedDiskTest, SyncedAllocationStays) {
  disk_->set_capacity_bytes(4 * kBlock);
  const auto file = make_named("a");
  ASSERT_TRUE(file->allocate(0, 2 * kBlock));
  ASSERT_TRUE(file->sync());
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(disk_->free_bytes(), 2 * kBlock);
}

TEST_F(SimulatedDiskTest, OnAThinPoolAllocatedSpaceMayBeRefused) {
  const auto file = make("a");
  ASSERT_TRUE(file->allocate(0, kBlock));
  disk_->writes_may_hit_no_space(true);
  EXPECT_EQ(write(*file, 0, "x").error().code, ErrorCode::no_space);
  disk_->writes_may_hit_no_space(false);
  EXPECT_TRUE(write(*file, 0, "x"));
}

// --- Direct writes

class AlignedBlock {
 public:
  explicit AlignedBlock(char letter) { memory_.fill(static_cast<std::byte>(letter)); }
  ByteView view() const { return memory_; }
  ByteSpan span() { return memory_; }

 private:
  alignas(kBlock) std::array<std::byte, kBlock> memory_{};
};

TEST_F(SimulatedDiskTest, DirectWritesMustBeAligned) {
  const auto file = make("a", Access::write_direct);
  AlignedBlock block('x');
  EXPECT_TRUE(file->write_at(0, block.view(), {}, false));
  EXPECT_TRUE(file->write_at(kBlock, block.view(), block.view(), false));
  EXPECT_EQ(file->write_at(512, block.view(), {}, false).error().system_errno, EINVAL);
  EXPECT_EQ(file->write_at(0, block.view().first(512), {}, false).error().system_errno, EINVAL);
  EXPECT_EQ(file->write_at(0, block.view(), block.view().subspan(1), false).error().code,
            ErrorCode::io);
  EXPECT_TRUE(file->read_at(0, block.span()));
  EXPECT_EQ(file->read_at(1, block.span()).error().system_errno, EINVAL);
}

TEST_F(SimulatedDiskTest, DirectIoMayBeRefusedAtOpen) {
  disk_->set_direct_support(DirectSupport::refused_at_open);
  EXPECT_EQ(directory_->open("a", Access::write_direct, Creation::replace).error().system_errno,
            EINVAL);
  EXPECT_TRUE(directory_->open("a", Access::write_buffered, Creation::replace));
}

TEST_F(SimulatedDiskTest, DirectIoMayBeRefusedAtTheFirstWrite) {
  disk_->set_direct_support(DirectSupport::refused_at_write);
  const auto file = make("a", Access::write_direct);
  EXPECT_EQ(file->write_at(0, AlignedBlock('x').view(), {}, false).error().system_errno, EINVAL);
}

TEST_F(SimulatedDiskTest, WritingOneFileBothWaysIsNoticed) {
  const auto direct = make("a", Access::write_direct);
  ASSERT_TRUE(direct->write_at(0, AlignedBlock('x').view(), {}, false));
  ASSERT_TRUE(write(*make("b"), 0, "x"));
  EXPECT_FALSE(disk_->mixed_io_seen());
  const auto buffered = *directory_->open("a", Access::write_buffered, Creation::existing);
  EXPECT_FALSE(disk_->mixed_io_seen());
  ASSERT_TRUE(write(*buffered, 0, "x"));
  EXPECT_TRUE(disk_->mixed_io_seen());
}

TEST_F(SimulatedDiskTest, AReadHandleDoesNotWrite) {
  make("a");
  const auto file = *directory_->open("a", Access::read, Creation::existing);
  EXPECT_EQ(write(*file, 0, "x").error().system_errno, EBADF);
}

// --- Durable bytes that change

TEST_F(SimulatedDiskTest, AChangedDurableByteIsCounted) {
  const auto file = make("0.wal");
  ASSERT_TRUE(write(*file, 0, "abc", true));
  ASSERT_TRUE(write(*file, 0, "abcd", true));
  EXPECT_EQ(disk_->durable_bytes_changed(), 0U);
  ASSERT_TRUE(write(*file, 0, "aXYd"));
  EXPECT_EQ(disk_->durable_bytes_changed(), 2U);
}

TEST_F(SimulatedDiskTest, OnlySegmentsCountAsUnchanging) {
  const auto file = make("cursor");
  ASSERT_TRUE(write(*file, 0, "abc", true));
  ASSERT_TRUE(write(*file, 0, "xyz", true));
  EXPECT_EQ(disk_->durable_bytes_changed(), 0U);
}

TEST_F(SimulatedDiskTest, UnsyncedBytesAndZerosMayChange) {
  const auto file = make("0.wal");
  ASSERT_TRUE(write(*file, 0, std::string(10, '\0'), true));
  ASSERT_TRUE(write(*file, 0, "abc"));
  ASSERT_TRUE(write(*file, 0, "xyz"));
  EXPECT_EQ(disk_->durable_bytes_changed(), 0U);
}

TEST_F(SimulatedDiskTest, BytesThatSurvivedByLuckMayChange) {
  ASSERT_TRUE(write(*make("0.wal"), 0, "abc"));
  disk_->power_cut(1, kKeepAll);
  reopen();
  const auto file = *directory_->open("0.wal", Access::write_buffered, Creation::existing);
  ASSERT_TRUE(write(*file, 0, "abC", true));
  EXPECT_EQ(disk_->durable_bytes_changed(), 0U);
  ASSERT_TRUE(write(*file, 0, "abD", true));
  EXPECT_EQ(disk_->durable_bytes_changed(), 1U);
  ASSERT_TRUE(write(*file, 0, "abE"));
  EXPECT_EQ(disk_->durable_bytes_changed(), 2U);
  disk_->power_cut(1, kKeepAll);
  reopen();
  const auto again = *directory_->open("0.wal", Access::write_buffered, Creation::existing);
  ASSERT_TRUE(write(*again, 0, "abF"));
  EXPECT_EQ(disk_->durable_bytes_changed(), 2U);
}

// A failed write promises nothing, not even when another thread's sync carries what it left.
TEST_F(SimulatedDiskTest, WhatAFailedWriteLeftMayChange) {
  const auto file = make("0.wal");
  ASSERT_TRUE(write(*file, 0, std::string(4096, 'a'), true));
  disk_->fail_nth(Operation::write, 0, EIO, Repeat::once, true);
  EXPECT_FALSE(write(*file, 4096, std::string(4096, 'b')));
  ASSERT_TRUE(file->sync());
  ASSERT_TRUE(write(*file, 4096, std::string(4096, 'c'), true));
  EXPECT_EQ(disk_->durable_bytes_changed(), 0U);
  ASSERT_TRUE(write(*file, 4096, "x"));
  EXPECT_EQ(disk_->durable_bytes_changed(), 1U) << "what was written since is promised";
  ASSERT_TRUE(write(*file, 0, "x"));
  EXPECT_EQ(disk_->durable_bytes_changed(), 2U) << "what was promised before stays so";
}

TEST_F(SimulatedDiskTest, SpaceCutOffMayBeWrittenAnewOnceTheCutIsSynced) {
  const auto file = make("0.wal");
  ASSERT_TRUE(write(*file, 0, "abcdef", true));
  ASSERT_TRUE(file->truncate(3));
  ASSERT_TRUE(file->sync());
  ASSERT_TRUE(write(*file, 3, "xyz"));
  EXPECT_EQ(disk_->durable_bytes_changed(), 0U);
  ASSERT_TRUE(file->truncate(0));
  ASSERT_TRUE(write(*file, 0, "xyz"));
  EXPECT_EQ(disk_->durable_bytes_changed(), 3U) << "that cut was not synced";
}

// --- Damage and inspection

TEST_F(SimulatedDiskTest, AFlippedBitIsThereForGood) {
  const auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, "abc"));
  ASSERT_TRUE(file->sync());
  ASSERT_TRUE(write(*file, 512, "def"));
  ASSERT_TRUE(disk_->flip_bit("log/a", 1, 0));
  EXPECT_EQ(contents("a")->substr(0, 3), "acc");
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(contents("a"), "acc");
  EXPECT_FALSE(disk_->flip_bit("log/a", 3, 0));
  EXPECT_FALSE(disk_->flip_bit("log/b", 0, 0));
}

TEST_F(SimulatedDiskTest, FilesCanBeWrittenSwappedAndRemovedByHand) {
  ASSERT_TRUE(disk_->write_file("other/a", as_byte_view("1")));
  ASSERT_TRUE(disk_->write_file("other/b", as_byte_view("2")));
  ASSERT_TRUE(disk_->swap_files("other/a", "other/b"));
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(as_text(*disk_->read_file("other/a")), "2");
  EXPECT_EQ(as_text(*disk_->read_file("other/b")), "1");
  ASSERT_TRUE(disk_->remove_file("other/a"));
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(*disk_->list_files("other"), std::vector<std::string>{"b"});
  EXPECT_EQ(*disk_->list_files("/"), (std::vector<std::string>{"log/", "other/"}));
}

TEST_F(SimulatedDiskTest, UnreadablePlacesAnswerEioUntilWritten) {
  const auto file = make("a");
  ASSERT_TRUE(write(*file, 0, blocks('x', 2)));
  ASSERT_TRUE(disk_->make_unreadable("log/a", 5000, 1));
  std::string text(kBlock, '-');
  const auto into = std::as_writable_bytes(std::span(text));
  EXPECT_TRUE(file->read_at(0, into));
  EXPECT_EQ(file->read_at(kBlock, into).error().system_errno, EIO);
  ASSERT_TRUE(write(*file, kBlock, blocks('x')));
  EXPECT_TRUE(file->read_at(kBlock, into));
}

TEST_F(SimulatedDiskTest, TheTraceNamesEveryOperation) {
  disk_->set_tracing(true);
  const auto file = make("000000.wal");
  ASSERT_TRUE(write(*file, 4096, blocks('x', 2), true));
  ASSERT_TRUE(directory_->sync());
  disk_->fail_nth(Operation::sync, 0, EIO);
  EXPECT_FALSE(file->sync());
  disk_->power_cut(3);
  EXPECT_EQ(disk_->trace(),
            (std::vector<std::string>{"create 000000.wal", "write 000000.wal 4096+8192 durable",
                                      "directory_sync log/", "sync 000000.wal",
                                      "  sync fails: Input/output error", "-- power cut 3"}));
}

TEST_F(SimulatedDiskTest, TheClockStandsStillUntilItIsMoved) {
  disk_->set_now_ms(1000);
  disk_->advance_ms(-10);
  EXPECT_EQ(disk_->now_ms(), 990U);
  EXPECT_EQ(disk_->holder_description(), disk_->holder_description());
}

TEST_F(SimulatedDiskTest, ACloneGoesItsOwnWay) {
  const auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, "durable", true));
  ASSERT_TRUE(write(*file, 512, "unsynced"));
  const auto copy = disk_->clone();
  EXPECT_EQ(copy->operations(), 0U);
  copy->power_cut(1, kLoseAll);
  EXPECT_EQ(as_text(*copy->read_file("log/a")), "durable");
  EXPECT_EQ(contents("a")->substr(512), "unsynced");
  ASSERT_TRUE(write(*file, 0, "DURABLE", true));
  EXPECT_EQ(as_text(*copy->read_file("log/a")), "durable");
  EXPECT_EQ(copy->random_bits(), disk_->random_bits());
}

TEST_F(SimulatedDiskTest, HandlesMayOutliveTheDisk) {
  const auto file = make("a");
  disk_.reset();
  EXPECT_TRUE(write(*file, 0, "x"));
  directory_.reset();
}

// --- Latency and threads

TEST_F(SimulatedDiskTest, ASyncCarriesOnlyWhatHadReturnedBeforeItBegan) {
  const auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, sector('x')));
  // While the sync waits, another write comes and goes.
  disk_->set_latency([&](Operation operation) {
    if (operation == Operation::sync) {
      EXPECT_TRUE(write(*file, 0, sector('y')));
      EXPECT_TRUE(write(*file, 512, sector('z')));
    }
    return std::chrono::microseconds{0};
  });
  ASSERT_TRUE(file->sync());
  EXPECT_EQ(contents("a"), sector('y') + sector('z'));
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(contents("a"), sector('x'));
}

TEST_F(SimulatedDiskTest, ASyncThatEndsLateTakesNothingBack) {
  const auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, sector('x')));
  std::atomic<bool> first = true;
  disk_->set_latency([&](Operation operation) {
    if (operation == Operation::sync && first.exchange(false)) {
      EXPECT_TRUE(write(*file, 0, sector('y') + sector('y')));
      EXPECT_TRUE(file->sync());
    }
    return std::chrono::microseconds{0};
  });
  ASSERT_TRUE(file->sync());
  ASSERT_TRUE(write(*file, 1024, sector('z')));
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(contents("a"), sector('y') + sector('y'));
}

TEST_F(SimulatedDiskTest, ADurableWriteBesideASyncStaysDurable) {
  const auto file = make_named("a");
  ASSERT_TRUE(write(*file, 0, sector('x')));
  disk_->set_latency([&](Operation operation) {
    if (operation == Operation::sync) {
      EXPECT_TRUE(write(*file, 512, sector('y'), true));
    }
    return std::chrono::microseconds{0};
  });
  ASSERT_TRUE(file->sync());
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(contents("a"), sector('x') + sector('y'));
}

TEST_F(SimulatedDiskTest, ADirectorySyncCarriesOnlyTheNamesFromBeforeItBegan) {
  make("a");
  disk_->set_latency([&](Operation operation) {
    if (operation == Operation::directory_sync) {
      make("b");
    }
    return std::chrono::microseconds{0};
  });
  ASSERT_TRUE(directory_->sync());
  disk_->power_cut(1, kLoseAll);
  EXPECT_EQ(*disk_->list_files("log"), std::vector<std::string>{"a"});
}

TEST_F(SimulatedDiskTest, TwoWritesInFlightToOneBlockAreNoticed) {
  const auto file = make("a");
  std::atomic<bool> first = true;
  std::uint64_t other_offset = kBlock;
  disk_->set_latency([&](Operation operation) {
    if (operation == Operation::write && first.exchange(false)) {
      EXPECT_TRUE(write(*file, other_offset, "y"));
    }
    return std::chrono::microseconds{0};
  });
  ASSERT_TRUE(write(*file, 0, "x"));
  EXPECT_FALSE(disk_->overlapping_writes_seen());
  first = true;
  other_offset = kBlock - 1;
  ASSERT_TRUE(write(*file, 0, "x"));
  EXPECT_TRUE(disk_->overlapping_writes_seen());
}

TEST_F(SimulatedDiskTest, AWriteInFlightWhenTheProcessDiesEndsBefore) {
  std::set<std::string> seen;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    use({.seed = seed});
    const auto file = make_named("a");
    disk_->set_latency([&](Operation operation) {
      if (operation == Operation::write) {
        disk_->crash_process();
      }
      return std::chrono::microseconds{0};
    });
    const auto written = write(*file, 0, sector('x') + sector('x'));
    ASSERT_FALSE(written);
    seen.insert(*contents("a"));
  }
  EXPECT_EQ(seen, (std::set{std::string(), sector('x'), sector('x') + sector('x')}));
}

// Goal: the disk itself is free of data races, also beside stores into a mapping.
// Method: threads that write, sync, read, map and rename while others crash and clone; run under
// the thread sanitizer.
TEST_F(SimulatedDiskTest, ThreadsMayDoAnythingAtOnce) {
  const auto ring = make_named("ring");
  ASSERT_TRUE(write(*ring, 0, blocks('0', 4)));
  disk_->set_latency([](Operation operation) {
    return std::chrono::microseconds{operation == Operation::sync ? 50 : 5};
  });
  std::atomic<bool> stop = false;
  std::vector<std::jthread> threads;
  for (int id = 0; id < 3; ++id) {
    threads.emplace_back([&, id] {
      const auto name = "file" + std::to_string(id);
      while (!stop) {
        const auto directory = disk_->open_directory("log", true);
        if (!directory) {
          continue;
        }
        const auto file = (*directory)->open(name, Access::write_buffered, Creation::replace);
        const auto mapping = (*directory)->map("ring");
        for (std::uint64_t i = 0; i < 20 && file; ++i) {
          if (mapping) {
            const auto place = static_cast<std::size_t>(id) * kBlock + i;
            (*mapping)->bytes()[place] = static_cast<std::byte>(i);
          }
          std::array<std::byte, 100> bytes{};
          (void)write(**file, i * 1000, blocks('x'), i % 3 == 0);
          (void)(*file)->read_at(0, bytes);
          (void)(*file)->sync();
        }
        (void)(*directory)->sync();
        (void)(*directory)->rename(name, name + "b");
        (void)(*directory)->lock("lock", "me");
      }
    });
  }
  for (std::uint64_t crash = 0; crash < 60; ++crash) {
    std::this_thread::sleep_for(std::chrono::milliseconds{2});
    const auto copy = disk_->clone();
    copy->power_cut(crash);
    EXPECT_EQ(copy->read_file("log/ring")->size() % kBlock, 0U);
    disk_->writeback();
    if (crash % 3 == 0) {
      disk_->crash_after(crash);
    } else if (crash % 3 == 1) {
      disk_->crash_process();
    } else {
      disk_->power_cut(crash);
    }
  }
  stop = true;
}

}  // namespace
}  // namespace nori::testing
