// How to crash-test what you build on a store: an inventory. An order takes from the stock and
// writes a line for itself, in one batch; checkpoints come in between, and delete the log behind
// them. No crash may lose an order that was durable, make one up, or leave a half.
//
// The machine dies at every step of the work, in each of the ways of testing/crash_points.h; and
// again at every step of what comes after one of these crashes, recovery included.

#include <nori/store.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "testing/crash_points.h"
#include "testing/simulated_disk.h"

namespace {

using nori::testing::SimulatedDisk;

constexpr int kOrders = 24;
constexpr int kStock = 1000;
const std::string kLine(6'000, 'x');

nori::StoreOptions options_on(SimulatedDisk& disk) {
  nori::StoreOptions options;
  options.wal.directory = "inventory";
  options.wal.file_system = &disk;
  options.wal.fsync = nori::FsyncPolicy::os();
  options.wal.segment_bytes = options.wal.ring_bytes = 64 * nori::kKiB;
  options.wal.background_thread = false;  // so that each run does the same
  options.open_threads = 1;
  return options;
}

std::string name_of(int order) {
  char text[16];
  std::snprintf(text, sizeof text, "order/%04d", order);
  return text;
}

// Of every five orders the first is delivered, and its line removed, when the last one comes in.
bool is_there(int order, int orders) { return order % 5 != 0 || orders < order + 5; }

// How many orders the store has had; nothing where it holds what no number of orders would leave.
std::optional<int> orders_in(const nori::Store& store) {
  const auto stock = store.get("stock");
  auto scan = store.scan({.prefix = "order/"});
  if (!stock || !scan) {
    return std::nullopt;
  }
  const int orders = *stock ? kStock - std::stoi(std::string((*stock)->value())) : 0;
  for (int order = 0; order < orders; ++order) {
    if (is_there(order, orders)) {
      const auto entry = scan->next();
      if (!entry || entry->key != name_of(order) || entry->value != kLine) {
        return std::nullopt;
      }
    }
  }
  return scan->next() ? std::nullopt : std::optional(orders);
}

// What the process had been told when it died.
struct Told {
  int written = 0;  ///< Orders.
  int durable = 0;
};

// The work. It begins with what is there, and goes on until the disk dies, or to its end.
std::shared_ptr<Told> take_orders(SimulatedDisk& disk) {
  auto told = std::make_shared<Told>();
  auto opened = nori::Store::open(options_on(disk));
  if (!opened) {
    return told;
  }
  auto& store = opened->store;
  // What an opening has found is durable.
  told->written = told->durable = orders_in(store).value_or(0);
  while (told->written < kOrders) {
    const int order = told->written;
    nori::Batch batch;
    batch.put("stock", std::to_string(kStock - (order + 1)));
    batch.put(name_of(order), kLine);
    if (order % 5 == 4) {
      batch.remove(name_of(order - 4));
    }
    if (!store.write(batch)) {
      return told;
    }
    ++told->written;
    if (order % 3 == 2) {
      if (!store.sync()) {
        return told;
      }
      told->durable = told->written;
    }
    if (order % 7 == 6 && !(order % 2 == 0 ? store.checkpoint() : store.compact())) {
      return told;
    }
  }
  return told;
}

struct Crashes {
  int examined = 0;
  int wrong = 0;
};

// Looks at what a crash has left; the order under way may be there. Returns how many orders.
int examine(SimulatedDisk& disk, int at_least, int at_most, Crashes& crashes,
            const std::string& crash) {
  const auto opened = nori::Store::open(options_on(disk));
  const auto orders = opened ? orders_in(opened->store) : std::nullopt;
  ++crashes.examined;
  if (!orders || *orders < at_least || *orders > at_most) {
    ++crashes.wrong;
    const auto what = !opened   ? opened.error().message
                      : !orders ? "something else than orders"
                                : std::to_string(*orders) + " orders";
    std::printf("%s: %s\n", crash.c_str(), what.c_str());
  }
  return orders.value_or(0);
}

struct Left {
  std::unique_ptr<SimulatedDisk> disk;
  int orders = 0;
};

// Lets the machine die everywhere in its work on `start`, which has `orders`. Returns what one of
// these crashes has left, with half of all orders or more.
Left crash_everywhere(const SimulatedDisk& start, int orders, Crashes& crashes) {
  Left half;
  nori::testing::for_each_crash_point(
      start, take_orders,
      [&](const SimulatedDisk& dead, const Told& told, std::uint64_t operations) {
        for (const auto& form : nori::testing::kCrashForms) {
          const auto disk = nori::testing::crashed_copy(dead, form, operations);
          auto left = disk->clone();
          const bool power = form.crash == nori::testing::Crash::power;
          const int found =
              examine(*disk, std::max(orders, power ? told.durable : told.written),
                      std::max(orders, told.written + 1), crashes,
                      "operation " + std::to_string(operations) + ", " + std::string(form.name));
          if (!half.disk && form.options.torn_sectors && found >= kOrders / 2) {
            half = {std::move(left), found};
          }
        }
      });
  return half;
}

}  // namespace

int main() {
  Crashes crashes;
  const auto half = crash_everywhere(SimulatedDisk{}, 0, crashes);
  const int first = crashes.examined;
  if (half.disk) {
    crash_everywhere(*half.disk, half.orders, crashes);
  }
  std::printf("%d crashes, and %d after one of them: %d left what they should not\n", first,
              crashes.examined - first, crashes.wrong);
  return half.disk && crashes.wrong == 0 ? 0 : 1;
}
