#include "observe/event_queue.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "io/file_system.h"

namespace nori {
namespace {

// Keeps the segments' ids of rotations, and does something at each.
class Listener : public EventListener {
 public:
  void on_event(const Event& event) override {
    ids.push_back(std::get<SegmentRotated>(event).segment_id);
    if (then) {
      then(ids.back());
    }
  }
  std::vector<std::uint64_t> ids;
  std::function<void(std::uint64_t)> then;
};

Event rotated(std::uint64_t id) { return SegmentRotated{.segment_id = id}; }

class EventQueueTest : public ::testing::Test {
 protected:
  std::shared_ptr<Listener> listener_ = std::make_shared<Listener>();
  EventQueue events_{listener_};
};

TEST_F(EventQueueTest, EventsWaitUntilTheyAreDelivered) {
  events_.post(rotated(1));
  events_.post(rotated(2));
  EXPECT_TRUE(listener_->ids.empty());
  events_.deliver();
  EXPECT_EQ(listener_->ids, (std::vector<std::uint64_t>{1, 2}));
  events_.deliver();
  EXPECT_EQ(listener_->ids.size(), 2U) << "told twice";
}

TEST_F(EventQueueTest, WithoutAListenerNothingIsKept) {
  EventQueue events(nullptr);
  events.post(rotated(1));
  events.deliver();
  EXPECT_EQ(events.dropped(), 0U);
}

TEST_F(EventQueueTest, WhatAListenerCausesIsToldAfterIt) {
  bool within = false;
  listener_->then = [&](std::uint64_t id) {
    EXPECT_FALSE(within) << "told within another event";
    within = true;
    if (id < 3) {
      events_.post(rotated(id + 1));
      events_.deliver();
    }
    within = false;
  };
  events_.post(rotated(1));
  events_.deliver();
  EXPECT_EQ(listener_->ids, (std::vector<std::uint64_t>{1, 2, 3}));
}

TEST_F(EventQueueTest, WhatAListenerThrowsIsCounted) {
  listener_->then = [](std::uint64_t id) {
    if (id == 1) {
      throw std::runtime_error("no");
    }
  };
  events_.post(rotated(1));
  events_.post(rotated(2));
  events_.deliver();
  EXPECT_EQ(events_.exceptions(), 1U);
  EXPECT_EQ(listener_->ids, (std::vector<std::uint64_t>{1, 2}));
}

TEST_F(EventQueueTest, MoreThanMayWaitAreDroppedAndCounted) {
  listener_->then = [&](std::uint64_t id) {
    for (std::uint64_t i = 0; id == 0 && i < 1030; ++i) {
      events_.post(rotated(i + 1));
    }
  };
  events_.post(rotated(0));
  events_.deliver();
  EXPECT_EQ(events_.dropped(), 6U);
  ASSERT_EQ(listener_->ids.size(), 1025U);
  EXPECT_EQ(listener_->ids.back(), 1024U);
}

TEST_F(EventQueueTest, AForkTellsNothingOfItsParents) {
  static_cast<void>(io::posix_file_system());  // which counts forks
  const auto listener = std::make_shared<Listener>();
  EventQueue events(listener);
  events.post(rotated(1));
  const auto child = ::fork();
  if (child == 0) {
    events.deliver();
    ::_exit(listener->ids.empty() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  events.deliver();
  EXPECT_EQ(listener->ids.size(), 1U);
}

TEST(EventTest, IsDescribedInALine) {
  EXPECT_EQ(event_name(SpaceAvailable{}), "space_available");
  EXPECT_EQ(describe(SlowSync{.file = "000003.wal", .time_taken = std::chrono::milliseconds(1250)}),
            "slow_sync: 000003.wal took 1.250 s");
  EXPECT_EQ(describe(DamageFound{
                .by = DamageFound::By::reader, .segment_id = 3, .offset = 4096, .reason = "why"}),
            "damage_found: segment 3 at offset 4096, by a reader: why");
}

}  // namespace
}  // namespace nori
