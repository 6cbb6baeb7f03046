// A simulation as text: a line for the disk, and for each life a line for its opening, one for each
// step, and one for its end. What is not given is as usual.
//
//   disk seed=7 sector_bytes=512 io=direct padding=block
//   open fsync=os ring_bytes=65536 segment_bytes=65536 verification=tail crash_after=12
//     append times=3 records=1 value_bytes=100 durability=policy
//     sync
//   end crash_form=3 crash_seed=99 clock_ms=-20

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/try.h"
#include "testing/simulation.h"

namespace nori::testing {
namespace {

template <typename T, std::size_t N>
using Names = std::array<std::pair<std::string_view, T>, N>;

constexpr Names<FsyncPolicy::Kind, 3> kFsyncNames{{{"always", FsyncPolicy::Kind::always},
                                                   {"batch", FsyncPolicy::Kind::batch},
                                                   {"os", FsyncPolicy::Kind::os}}};
constexpr Names<IoMode, 3> kIoNames{
    {{"automatic", IoMode::automatic}, {"direct", IoMode::direct}, {"buffered", IoMode::buffered}}};
constexpr Names<Padding, 2> kPaddingNames{{{"block", Padding::block}, {"none", Padding::none}}};
constexpr Names<Verification, 2> kVerificationNames{
    {{"tail", Verification::tail}, {"all", Verification::all}}};
constexpr Names<Durability, 2> kDurabilityNames{
    {{"policy", Durability::policy}, {"durable", Durability::durable}}};
constexpr Names<bool, 2> kYesNo{{{"no", false}, {"yes", true}}};
constexpr Names<Repeat, 2> kRepeatNames{{{"once", Repeat::once}, {"forever", Repeat::forever}}};
constexpr Names<Step::Kind, 19> kStepNames{{{"append", Step::Kind::append},
                                            {"try_append", Step::Kind::try_append},
                                            {"sync", Step::Kind::sync},
                                            {"wait_durable", Step::Kind::wait_durable},
                                            {"rotate", Step::Kind::rotate},
                                            {"delete_old", Step::Kind::delete_old},
                                            {"compact", Step::Kind::compact},
                                            {"read", Step::Kind::read},
                                            {"follow", Step::Kind::follow},
                                            {"consume", Step::Kind::consume},
                                            {"commit", Step::Kind::commit},
                                            {"flush", Step::Kind::flush},
                                            {"seek", Step::Kind::seek},
                                            {"leave", Step::Kind::leave},
                                            {"drop", Step::Kind::drop},
                                            {"begin_snapshot", Step::Kind::begin_snapshot},
                                            {"finish_snapshot", Step::Kind::finish_snapshot},
                                            {"retain", Step::Kind::retain},
                                            {"close", Step::Kind::close}}};

template <typename T, std::size_t N>
std::string_view name_of(const Names<T, N>& names, T value) {
  for (const auto& [name, candidate] : names) {
    if (candidate == value) {
      return name;
    }
  }
  return "?";
}

std::string operations_text(OperationSet operations) {
  std::string text;
  for (auto operation = Operation::open; operation <= Operation::directory_sync;
       operation = static_cast<Operation>(static_cast<int>(operation) + 1)) {
    if (operations.contains(operation)) {
      text += text.empty() ? "" : ",";
      text += operation_name(operation);
    }
  }
  return text;
}

// A line: its first word, and the values behind it.
class Line {
 public:
  Line(std::size_t number, std::string_view text) : number_(number) {
    for (std::string_view word; !(word = next_word(text)).empty();) {
      if (name_.empty()) {
        name_ = word;
      } else {
        const auto equals = word.find('=');
        values_[word.substr(0, equals)] =
            equals == std::string_view::npos ? std::string_view{} : word.substr(equals + 1);
      }
    }
  }

  [[nodiscard]] std::string_view name() const { return name_; }

  [[nodiscard]] std::unexpected<Error> error(std::string_view what) const {
    return std::unexpected(Error{.code = ErrorCode::invalid_argument,
                                 .message = fmt::format("line {}: {}", number_, what)});
  }

  // Each takes a value off the line, if it is there.

  template <typename T, std::size_t N>
  Result<void> take(std::string_view name, const Names<T, N>& names, T& value) {
    const auto text = take(name);
    if (!text) {
      return {};
    }
    for (const auto& [candidate, meaning] : names) {
      if (candidate == *text) {
        value = meaning;
        return {};
      }
    }
    return error(fmt::format("{} cannot be \"{}\"", name, *text));
  }

  template <typename T>
  Result<void> take_number(std::string_view name, T& value) {
    const auto text = take(name);
    if (!text) {
      return {};
    }
    const auto* const end = text->data() + text->size();
    const auto parsed = std::from_chars(text->data(), end, value);
    if (parsed.ec != std::errc{} || parsed.ptr != end) {
      return error(fmt::format("{} is \"{}\", which is no number of its kind", name, *text));
    }
    return {};
  }

  template <typename T>
  Result<void> take_number(std::string_view name, std::optional<T>& value) {
    if (values_.contains(name)) {
      value.emplace();
      return take_number(name, *value);
    }
    return {};
  }

  std::optional<std::string_view> take(std::string_view name) {
    const auto found = values_.find(name);
    if (found == values_.end()) {
      return std::nullopt;
    }
    const auto text = found->second;
    values_.erase(found);
    return text;
  }

  // That nothing is left over.
  [[nodiscard]] Result<void> done() const {
    return values_.empty()
               ? Result<void>{}
               : error(fmt::format("\"{}\" means nothing to {}", values_.begin()->first, name_));
  }

 private:
  static std::string_view next_word(std::string_view& text) {
    constexpr std::string_view kBlanks = " \t\r";
    text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
    const auto word = text.substr(0, text.find_first_of(kBlanks));
    text.remove_prefix(word.size());
    return word;
  }

  std::size_t number_;
  std::string_view name_;
  std::map<std::string_view, std::string_view> values_;
};

Result<void> take_disk(Line& line, Simulation& simulation) {
  NORI_TRY(line.take_number("seed", simulation.seed));
  NORI_TRY(line.take_number("sector_bytes", simulation.sector_bytes));
  NORI_TRY(line.take("io", kIoNames, simulation.io));
  NORI_TRY(line.take("padding", kPaddingNames, simulation.padding));
  return line.done();
}

Result<void> take_fault(Line& line, Life& life) {
  const auto names = line.take("fault");
  if (!names) {
    return {};
  }
  std::optional<OperationSet> operations;
  for (auto operation = Operation::open; operation <= Operation::directory_sync;
       operation = static_cast<Operation>(static_cast<int>(operation) + 1)) {
    // Between commas, so that `sync` is not found in `directory_sync`.
    if (fmt::format(",{},", *names).find(fmt::format(",{},", operation_name(operation))) !=
        std::string::npos) {
      operations = operations ? *operations | operation : OperationSet(operation);
    }
  }
  if (!operations) {
    return line.error(fmt::format("no operation is called \"{}\"", *names));
  }
  life.fault.emplace(Fault{.operations = *operations});
  NORI_TRY(line.take_number("fault_after", life.fault->after));
  NORI_TRY(line.take_number("errno", life.fault->system_errno));
  NORI_TRY(line.take("repeat", kRepeatNames, life.fault->repeat));
  return line.take("drops_pages", kYesNo, life.fault->drops_pages);
}

Result<void> take_open(Line& line, Life& life) {
  NORI_TRY(line.take("fsync", kFsyncNames, life.fsync));
  NORI_TRY(line.take_number("ring_bytes", life.ring_bytes));
  NORI_TRY(line.take_number("segment_bytes", life.segment_bytes));
  NORI_TRY(line.take("verification", kVerificationNames, life.verification));
  NORI_TRY(line.take_number("crash_after", life.crash_after));
  NORI_TRY(take_fault(line, life));
  return line.done();
}

Result<void> take_end(Line& line, Life& life) {
  NORI_TRY(line.take_number("crash_form", life.crash_form));
  NORI_TRY(line.take_number("crash_seed", life.crash_seed));
  NORI_TRY(line.take_number("damage_seed", life.damage_seed));
  NORI_TRY(line.take_number("clock_ms", life.clock_ms));
  if (life.crash_form >= std::size(kCrashForms)) {
    return line.error(fmt::format("crash_form is not below {}", std::size(kCrashForms)));
  }
  return line.done();
}

Result<void> take_step(Line& line, Life& life) {
  for (const auto& [name, kind] : kStepNames) {
    if (name == line.name()) {
      Step step{.kind = kind};
      NORI_TRY(line.take_number("times", step.times));
      NORI_TRY(line.take_number("records", step.records));
      NORI_TRY(line.take_number("value_bytes", step.value_bytes));
      NORI_TRY(line.take("durability", kDurabilityNames, step.durability));
      NORI_TRY(line.take_number("consumer", step.consumer));
      NORI_TRY(line.take_number("back", step.back));
      NORI_TRY(line.take_number("keep", step.keep));
      NORI_TRY(line.take_number("skip", step.skip));
      NORI_TRY(line.take("keeps_all", kYesNo, step.keeps_all));
      NORI_TRY(line.take_number("max_bytes", step.max_bytes));
      NORI_TRY(line.take_number("max_age_ms", step.max_age_ms));
      life.script.push_back(step);
      return line.done();
    }
  }
  return line.error(fmt::format("there is no step \"{}\"", line.name()));
}

// What counts of its numbers.
std::string numbers_text(const Step& step) {
  using Kind = Step::Kind;
  switch (step.kind) {
    case Kind::append:
    case Kind::try_append:
      return fmt::format(" times={} records={} value_bytes={} durability={}", step.times,
                         step.records, step.value_bytes,
                         name_of(kDurabilityNames, step.durability));
    case Kind::compact:
      return fmt::format(" skip={} keeps_all={}", step.skip, name_of(kYesNo, step.keeps_all));
    case Kind::consume:
      return fmt::format(" consumer={} times={} back={}", step.consumer, step.times, step.back);
    case Kind::commit:
    case Kind::flush:
    case Kind::seek:
    case Kind::leave:
    case Kind::drop:
      return fmt::format(" consumer={} back={}", step.consumer, step.back);
    case Kind::begin_snapshot:
      return fmt::format(" back={} keep={}", step.back, step.keep);
    case Kind::retain:
      return fmt::format(" max_bytes={} max_age_ms={}", step.max_bytes, step.max_age_ms);
    default:
      return {};
  }
}

}  // namespace

std::string to_text(const Simulation& simulation) {
  auto text = fmt::format("disk seed={} sector_bytes={} io={} padding={}\n", simulation.seed,
                          simulation.sector_bytes, name_of(kIoNames, simulation.io),
                          name_of(kPaddingNames, simulation.padding));
  for (const auto& life : simulation.lives) {
    text += fmt::format("open fsync={} ring_bytes={} segment_bytes={} verification={}",
                        name_of(kFsyncNames, life.fsync), life.ring_bytes, life.segment_bytes,
                        name_of(kVerificationNames, life.verification));
    if (life.crash_after) {
      text += fmt::format(" crash_after={}", *life.crash_after);
    }
    if (life.fault) {
      text += fmt::format(" fault={} fault_after={} errno={} repeat={} drops_pages={}",
                          operations_text(life.fault->operations), life.fault->after,
                          life.fault->system_errno, name_of(kRepeatNames, life.fault->repeat),
                          name_of(kYesNo, life.fault->drops_pages));
    }
    text += '\n';
    for (const auto& step : life.script) {
      text += fmt::format("  {}{}\n", name_of(kStepNames, step.kind), numbers_text(step));
    }
    text += fmt::format("end crash_form={} crash_seed={} clock_ms={}", life.crash_form,
                        life.crash_seed, life.clock_ms);
    if (life.damage_seed) {
      text += fmt::format(" damage_seed={}", *life.damage_seed);
    }
    text += '\n';
  }
  return text;
}

Result<Simulation> simulation_of(std::string_view text) {
  Simulation simulation;
  std::size_t number = 0;
  bool is_open = false;
  while (!text.empty()) {
    const auto end = text.find('\n');
    Line line(++number, text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.name().empty() || line.name().starts_with('#')) {
      continue;
    }
    if (line.name() == "disk") {
      NORI_TRY(take_disk(line, simulation));
    } else if (line.name() == "open" && !is_open) {
      is_open = true;
      NORI_TRY(take_open(line, simulation.lives.emplace_back()));
    } else if (!is_open) {
      return line.error(fmt::format("\"{}\" before \"open\"", line.name()));
    } else if (line.name() == "end") {
      is_open = false;
      NORI_TRY(take_end(line, simulation.lives.back()));
    } else {
      NORI_TRY(take_step(line, simulation.lives.back()));
    }
  }
  return simulation;
}

}  // namespace nori::testing
