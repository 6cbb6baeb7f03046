// One disk, many lives of a log: each opens what the last crash left, and dies somewhere. Fixed
// seeds, and the scripts of what once failed; ./dev crash-hunt looks for more.

#include "testing/simulation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <ostream>
#include <string>
#include <vector>

#include "testing/crash_points.h"

namespace nori::crash_tests {
namespace {

using namespace nori::testing;  // NOLINT: the language of scripts

constexpr std::uint64_t kSeedsPerTest = 100 / kCrashPointStride;

// Goal: no life loses what was promised in an earlier one, or finds what no longer was.
// Method: what is there after each crash is compared with a reference and becomes it.
class SimulationTest : public ::testing::TestWithParam<std::uint64_t> {};
TEST_P(SimulationTest, LivesAddUp) {
  const auto first = 1000 * GetParam();
  for (auto seed = first; seed < first + kSeedsPerTest; ++seed) {
    const auto simulation = random_simulation(seed);
    const auto wrong = simulate(simulation);
    ASSERT_EQ(wrong, "") << "seed " << seed << "; crash_hunt --seed " << seed << " says more";
  }
}
INSTANTIATE_TEST_SUITE_P(Seeds, SimulationTest, ::testing::Range<std::uint64_t>(0, 8));

TEST(SimulationTextTest, SaysAllThereIsToASimulation) {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    const auto text = to_text(random_simulation(seed));
    const auto read = simulation_of(text);
    ASSERT_TRUE(read) << read.error().message;
    ASSERT_EQ(to_text(*read), text);
  }
}

TEST(SimulationTextTest, NamesTheLineThatIsWrong) {
  for (const std::string wrong :
       {"sync", "open\nfrobnicate", "open\nappend times=many", "open\nend crash_form=99",
        "open\nretain max_age_ms=long", "open\ncompact keeps_all=perhaps", "open fsync=sometimes",
        "open fault=frobnicate", "disk colour=red", "open\nopen"}) {
    const auto read = simulation_of("# a comment\n" + wrong);
    ASSERT_FALSE(read) << wrong;
    EXPECT_EQ(read.error().code, ErrorCode::invalid_argument);
    EXPECT_TRUE(read.error().message.starts_with("line 2: ") ||
                read.error().message.starts_with("line 3: "))
        << read.error().message;
  }
}

TEST(SimulationDeterminismTest, TheSameSeedDoesTheSame) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    std::vector<std::string> first;
    std::vector<std::string> second;
    ASSERT_EQ(simulate(random_simulation(seed), &first), "");
    ASSERT_EQ(simulate(random_simulation(seed), &second), "");
    ASSERT_EQ(first, second) << "seed " << seed;
  }
}

// Goal: of a long simulation that fails, what is left is what makes it fail.
TEST(ShrinkTest, LeavesWhatFailsAndNothingElse) {
  const auto has_rotation_behind_append = [](const Simulation& simulation) {
    return std::ranges::any_of(simulation.lives, [](const Life& life) {
      const auto appended = std::ranges::find_if(life.script, [](const Step& step) {
        return step.kind == Step::Kind::append && step.records >= 3;
      });
      return std::find_if(appended, life.script.end(), [](const Step& step) {
               return step.kind == Step::Kind::rotate;
             }) != life.script.end();
    });
  };
  std::uint64_t seed = 1;
  while (!has_rotation_behind_append(random_simulation(seed))) {
    ++seed;
  }
  const auto small = shrink(random_simulation(seed), has_rotation_behind_append);
  ASSERT_EQ(small.lives.size(), 1U);
  ASSERT_EQ(small.lives[0].script.size(), 2U);
  EXPECT_EQ(small.lives[0].script[0].times, 1U);
  EXPECT_LT(small.lives[0].script[0].records, 6U);
  EXPECT_EQ(small.lives[0].script[0].value_bytes, 0U);
  EXPECT_FALSE(small.lives[0].fault);
}

// What once failed, made small.
struct Script {
  std::filesystem::path path;
  friend void PrintTo(const Script& script, std::ostream* to) {
    *to << script.path.filename().string();
  }
};

std::vector<Script> scripts() {
  std::vector<Script> found;
  for (const auto& entry :
       std::filesystem::directory_iterator(NORI_SOURCE_DIR "/tests/crash/scripts")) {
    found.push_back({entry.path()});
  }
  std::ranges::sort(found, {}, &Script::path);
  return found;
}

class ScriptTest : public ::testing::TestWithParam<Script> {};
TEST_P(ScriptTest, HasNothingWrong) {
  std::ifstream file(GetParam().path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto simulation = simulation_of(text);
  ASSERT_TRUE(simulation) << simulation.error().message;
  EXPECT_EQ(simulate(*simulation), "");
}
INSTANTIATE_TEST_SUITE_P(Every, ScriptTest, ::testing::ValuesIn(scripts()), [](const auto& test) {
  auto name = test.param.path.stem().string();
  std::ranges::replace(name, '-', '_');
  return name;
});

}  // namespace
}  // namespace nori::crash_tests
