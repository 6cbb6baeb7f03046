#include "store/ordered_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace nori {
namespace {

using Model = std::map<std::string, std::string, std::less<>>;

ItemRef make(std::string_view key, std::string_view value) {
  return ItemRef(Item::make(key, value, std::nullopt));
}

Model contents(const IndexView& view) {
  Model found;
  IndexCursor cursor(view);
  std::optional<std::string> before;
  for (cursor.seek_first(); cursor.item() != nullptr; cursor.next()) {
    const std::string key(cursor.item()->key());
    EXPECT_TRUE(!before || *before < key);
    before = key;
    found.emplace(key, cursor.item()->value());
  }
  return found;
}

Model contents_backwards(const IndexView& view) {
  Model found;
  IndexCursor cursor(view);
  std::optional<std::string> before;
  for (cursor.seek_last(); cursor.item() != nullptr; cursor.previous()) {
    const std::string key(cursor.item()->key());
    EXPECT_TRUE(!before || *before > key);
    before = key;
    found.emplace(key, cursor.item()->value());
  }
  return found;
}

// Keys that differ early, late, in their length alone, and not at all.
class Keys {
 public:
  explicit Keys(std::uint32_t seed) : random_(seed), kind_(seed % 5) {}

  std::string next() {
    const auto number = random_() % 3000;
    switch (kind_) {
      case 0:
        return std::to_string(random_() % 100'000'000);
      case 1:
        return "a long prefix that all of them share/" + std::to_string(number);
      case 2:
        return std::string(number % 40, 'a') + std::string(number / 40 % 5, '\0');
      case 3:
        return std::string(number % 7, '\xff') + std::to_string(number);
      default:
        return "user/" + std::to_string(number % 30) + "/item/" + std::to_string(number);
    }
  }
  std::uint32_t below(std::uint32_t limit) { return static_cast<std::uint32_t>(random_() % limit); }

 private:
  std::mt19937 random_;
  std::uint32_t kind_;
};

class IndexSeedsTest : public ::testing::TestWithParam<std::uint32_t> {};

// Goal: an index is an ordered map, and its views are what it was.
// Method: random changes beside a std::map, with copies of the map for the views; phases in which
// most changes add, and most take out, so that the tree grows and shrinks by several levels. Where
// one is inserted behind another, their place is kept; half of them are neighbours.
TEST_P(IndexSeedsTest, IsAnOrderedMapWhoseViewsStay) {
  Keys keys(GetParam());
  OrderedIndex index;
  Model model;
  std::vector<std::pair<IndexView, Model>> views;
  OrderedIndex::Place place;
  std::string last_key;
  for (int step = 0; step < 40'000; ++step) {
    const bool grows = step / 8000 % 2 == 0;
    auto key = keys.next();
    if (grows && keys.below(2) == 0 && last_key.size() < 50) {
      key = last_key + static_cast<char>(keys.below(256));
    }
    last_key = key;
    if (!grows && keys.below(2) == 0 && !model.empty()) {
      const auto at = model.lower_bound(key);
      key = at == model.end() ? model.begin()->first : at->first;
    }
    const auto before = model.find(key);
    if (keys.below(10) < (grows ? 9U : 2U)) {
      const auto value = std::to_string(step);
      const auto replaced = index.insert(make(key, value), place);
      ASSERT_EQ(static_cast<bool>(replaced), before != model.end());
      ASSERT_TRUE(!replaced || replaced->value() == before->second);
      model[key] = value;
    } else {
      place = {};
      const auto removed = index.remove(key);
      ASSERT_EQ(static_cast<bool>(removed), before != model.end());
      ASSERT_TRUE(!removed || removed->value() == before->second);
      model.erase(key);
    }
    ASSERT_EQ(index.size(), model.size());
    ASSERT_LE(index.levels(), 4U);
    if (keys.below(2000) == 0) {
      place = {};
      views.emplace_back(index.view(), model);
    }
    if (keys.below(3000) == 0 && !views.empty()) {
      views.erase(views.begin() + keys.below(static_cast<std::uint32_t>(views.size())));
    }
  }
  ASSERT_EQ(contents(index.view()), model);
  for (const auto& [view, was] : views) {
    EXPECT_EQ(contents(view), was);
    EXPECT_EQ(contents_backwards(view), was);
  }
}

TEST_P(IndexSeedsTest, FindsEveryPlace) {
  Keys keys(GetParam());
  OrderedIndex index;
  Model model;
  for (int i = 0; i < 3000; ++i) {
    const auto key = keys.next();
    (void)index.insert(make(key, key));
    model[key] = key;
  }
  const auto view = index.view();
  IndexCursor cursor(view);
  for (int i = 0; i < 3000; ++i) {
    const auto key = keys.next().substr(0, keys.below(30)) + (keys.below(2) == 0 ? "" : "5");
    const auto there = model.lower_bound(key);
    const auto* const item = view.find(key);
    ASSERT_EQ(item != nullptr, there != model.end() && there->first == key);
    ASSERT_EQ(cursor.seek(key), there != model.end());
    ASSERT_EQ(cursor.item() == nullptr ? "" : cursor.item()->key(),
              there == model.end() ? "" : there->first);
    ASSERT_EQ(cursor.seek_below(key), there != model.begin());
    ASSERT_EQ(cursor.item() == nullptr ? "" : cursor.item()->key(),
              there == model.begin() ? "" : std::prev(there)->first);
  }
}

TEST_P(IndexSeedsTest, IsBuiltFromPartsAndGoesOn) {
  Keys keys(GetParam());
  Model model;
  for (std::uint32_t i = 0, count = keys.below(6000); i < count; ++i) {
    const auto key = keys.next();
    model[key] = std::to_string(i);
  }
  IndexBuilder built;
  IndexBuilder part;
  for (const auto& [key, value] : model) {
    if (keys.below(700) == 0) {
      built.append(std::move(part));
      part = IndexBuilder();
    }
    part.add(make(key, value));
  }
  built.append(std::move(part));
  auto index = built.finish();
  ASSERT_EQ(index.size(), model.size());
  ASSERT_EQ(contents(index.view()), model);
  const auto view = index.view();
  const auto was = model;
  for (int i = 0; i < 3000; ++i) {
    const auto key = keys.next();
    (void)index.insert(make(key, "new"));
    model[key] = "new";
    const auto gone = keys.next();
    (void)index.remove(gone);
    model.erase(gone);
  }
  EXPECT_EQ(contents(index.view()), model);
  EXPECT_EQ(contents(view), was);
}

INSTANTIATE_TEST_SUITE_P(Seeds, IndexSeedsTest, ::testing::Range(0U, 10U));

TEST(OrderedIndexTest, KeysThatComeInOrderFillTheLeaves) {
  OrderedIndex index;
  for (int i = 0; i < 100'000; ++i) {
    (void)index.insert(make("key/" + std::to_string(1'000'000 + i), ""));
  }
  EXPECT_EQ(index.size(), 100'000U);
  EXPECT_LT(index.memory_bytes(), 100'000U * 19);  // 16 are two pointers' worth
}

// Goal: nobody who chooses the keys makes it high, or many nodes for few keys.
// Method: keys that are each behind all of a full leaf, and before all that was split off it. Where
// the full leaf ends is tried.
TEST(OrderedIndexTest, NoOrderOfKeysMakesItHigh) {
  for (int end_of_leaf = 150; end_of_leaf < 250; ++end_of_leaf) {
    OrderedIndex index;
    for (int i = 100; i < 300; ++i) {
      (void)index.insert(make("a" + std::to_string(i), ""));
    }
    for (std::size_t zeros = 0; zeros < 10; ++zeros) {
      const auto front = "a" + std::to_string(end_of_leaf) + std::string(zeros, '\0');
      for (int last = 255; last > 0; --last) {
        (void)index.insert(make(front + static_cast<char>(last), ""));
      }
    }
    ASSERT_EQ(index.size(), 200U + 10 * 255);
    ASSERT_LE(index.levels(), 3U) << end_of_leaf;
    ASSERT_LT(index.memory_bytes(), index.size() * 40) << end_of_leaf;
  }
}

// A queue: what is taken out leaves nothing behind.
TEST(OrderedIndexTest, AQueueThatMovesOnStaysSmall) {
  OrderedIndex index;
  std::uint64_t memory_most = 0;
  for (int i = 0; i < 300'000; ++i) {
    (void)index.insert(make("job/" + std::to_string(1'000'000 + i), ""));
    if (i >= 1000) {
      ASSERT_TRUE(index.remove("job/" + std::to_string(1'000'000 + i - 1000)));
    }
    memory_most = std::max(memory_most, index.memory_bytes());
  }
  EXPECT_EQ(index.size(), 1000U);
  EXPECT_LT(memory_most, 80U * 1024);
}

TEST(OrderedIndexTest, GivesBackItsMemoryWhenEmpty) {
  OrderedIndex index;
  const auto empty = index.memory_bytes();
  std::mt19937 random(1);
  std::vector<std::string> keys;
  for (int i = 0; i < 20'000; ++i) {
    keys.push_back(std::to_string(random()));
    (void)index.insert(make(keys.back(), ""));
  }
  std::ranges::shuffle(keys, random);
  for (const auto& key : keys) {
    (void)index.remove(key);
  }
  EXPECT_EQ(index.size(), 0U);
  EXPECT_EQ(index.memory_bytes(), empty);
}

TEST(OrderedIndexThreadsTest, ViewsAreReadWhileItChanges) {
  OrderedIndex index;
  for (int i = 0; i < 3000; ++i) {
    (void)index.insert(make(std::to_string(i), "0"));
  }
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 3; ++reader) {
    readers.emplace_back([view = index.view()] {
      for (int round = 0; round < 5; ++round) {
        const auto found = contents(view);
        EXPECT_EQ(found.size(), 3000U);
        EXPECT_TRUE(
            std::ranges::all_of(found, [](const auto& pair) { return pair.second == "0"; }));
      }
    });
  }
  for (int i = 0; i < 6000; ++i) {
    (void)index.insert(make(std::to_string(i % 4000), "1"));
    (void)index.remove(std::to_string(i * 7 % 4000));
  }
  for (auto& reader : readers) {
    reader.join();
  }
}

}  // namespace
}  // namespace nori
