#include "store/ordered_index.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <utility>

#include "store/key_head.h"

namespace nori {

namespace index {

namespace {

/// Four bytes behind what is common tell the keys of a leaf apart, of ten million too. Of eight
/// bytes they cost a line or two more per search, and seven bytes of memory a pair.
using Head = std::uint32_t;

// Nodes of a kibibyte.
constexpr int kLeafSlots = 82;
constexpr int kInnerSlots = 48;
/// Of what is built from sorted items: room for some more.
constexpr int kLeafSlotsBuilt = 74;
constexpr int kInnerSlotsBuilt = 43;
/// Heads are made anew where so many more bytes turn out to be common to all keys.
constexpr std::size_t kSkipStep = 2;

/// The first of `count` ascending heads that is not below `head`. Without branches: which way it
/// goes cannot be foretold.
int first_not_below(const Head* heads, int count, Head head) noexcept {
  const auto* base = heads;
  int left = count;
  while (left > 1) {
    const int half = left / 2;
    base += base[half - 1] < head ? half : 0;
    left -= half;
  }
  return static_cast<int>(base - heads) + (left == 1 && *base < head ? 1 : 0);
}

}  // namespace

/// Parts keys: those below it from those that are not.
class Separator {
 public:
  /// The shortest that parts `below` from `from`.
  [[nodiscard]] static Separator* between(std::string_view below, std::string_view from) {
    const auto bytes = common_prefix(below, from) + 1;
    void* const memory = std::malloc(sizeof(Separator) + bytes);
    if (memory == nullptr) {
      throw std::bad_alloc();
    }
    auto* const separator = new (memory) Separator(static_cast<std::uint32_t>(bytes));
    std::memcpy(reinterpret_cast<char*>(separator + 1), from.data(), bytes);
    return separator;
  }

  [[nodiscard]] std::string_view key() const noexcept {
    return {reinterpret_cast<const char*>(this + 1), bytes_};
  }
  [[nodiscard]] std::uint64_t memory_bytes() const noexcept {
    return Item::memory_of(sizeof(Separator) + bytes_);
  }
  void add_reference() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      std::free(this);
    }
  }

 private:
  explicit Separator(std::uint32_t bytes) noexcept : bytes_(bytes) {}

  std::atomic<std::uint32_t> references_{1};
  std::uint32_t bytes_;
};

struct Node {
  Node(std::uint16_t level_of, std::uint32_t skip_of) noexcept : level(level_of), skip(skip_of) {}

  std::atomic<std::uint32_t> references{1};
  std::uint16_t count = 0;
  std::uint16_t level;  ///< 0: a leaf.
  /// Bytes that all keys which can come here share. Heads begin behind them.
  std::uint32_t skip;
};

namespace {

struct Leaf : Node {
  explicit Leaf(std::uint32_t skip_of) noexcept : Node(0, skip_of) {}

  Head heads[kLeafSlots];
  Item* items[kLeafSlots];
};

struct Inner : Node {
  Inner(std::uint16_t level_of, std::uint32_t skip_of) noexcept : Node(level_of, skip_of) {}

  // What parts child i from the one before; the first has none.
  Head heads[kInnerSlots];
  Separator* separators[kInnerSlots];
  Node* children[kInnerSlots];
};

// The separators around the keys that can come to a node.
struct Fences {
  std::optional<std::string_view> from;
  std::optional<std::string_view> to;

  [[nodiscard]] std::uint32_t skip_max() const noexcept {
    return from && to ? static_cast<std::uint32_t>(common_prefix(*from, *to)) : 0;
  }
};

Leaf* leaf_of(Node* node) noexcept { return static_cast<Leaf*>(node); }
Inner* inner_of(Node* node) noexcept { return static_cast<Inner*>(node); }

Fences fences_of_child(const Inner& node, int at, const Fences& around) noexcept {
  Fences fences = around;
  if (at > 0) {
    fences.from = node.separators[at]->key();
  }
  if (at + 1 < node.count) {
    fences.to = node.separators[at + 1]->key();
  }
  return fences;
}

void add_reference(Node* node) noexcept {
  node->references.fetch_add(1, std::memory_order_relaxed);
}

void release(Node* node) noexcept {
  if (node->references.fetch_sub(1, std::memory_order_acq_rel) != 1) {
    return;
  }
  if (node->level == 0) {
    auto* const leaf = leaf_of(node);
    for (int i = 0; i < leaf->count; ++i) {
      __builtin_prefetch(leaf->items[i], 1);
    }
    for (int i = 0; i < leaf->count; ++i) {
      leaf->items[i]->release();
    }
    delete leaf;
    return;
  }
  auto* const inner = inner_of(node);
  for (int i = 0; i < inner->count; ++i) {
    if (i > 0) {
      inner->separators[i]->release();
    }
    release(inner->children[i]);
  }
  delete inner;
}

Node* copy_of(const Node* node) {
  if (node->level == 0) {
    const auto* const from = static_cast<const Leaf*>(node);
    auto* const to = new Leaf(from->skip);
    to->count = from->count;
    std::copy_n(from->heads, from->count, to->heads);
    std::copy_n(from->items, from->count, to->items);
    for (int i = 0; i < to->count; ++i) {
      __builtin_prefetch(to->items[i], 1);
    }
    for (int i = 0; i < to->count; ++i) {
      to->items[i]->add_reference();
    }
    return to;
  }
  const auto* const from = static_cast<const Inner*>(node);
  auto* const to = new Inner(from->level, from->skip);
  to->count = from->count;
  std::copy_n(from->heads, from->count, to->heads);
  std::copy_n(from->separators, from->count, to->separators);
  std::copy_n(from->children, from->count, to->children);
  for (int i = 0; i < to->count; ++i) {
    if (i > 0) {
      to->separators[i]->add_reference();
    }
    add_reference(to->children[i]);
  }
  return to;
}

// Nobody else holds what `node` names on return.
Node* own(Node*& node) {
  if (node->references.load(std::memory_order_acquire) != 1) {
    auto* const copy = copy_of(node);
    release(std::exchange(node, copy));
  }
  return node;
}

struct Found {
  int at;
  bool is_there;
};

// A search looks at three or four lines of the heads, one after the other: all of them are fetched
// at once, which takes a tenth to a sixth off a search among a million.
void prefetch_heads(const Node* node) noexcept {
  constexpr std::size_t kLineBytes = 64;
  static_assert(sizeof(Leaf::heads) >= sizeof(Inner::heads));
  for (std::size_t at = 0; at < sizeof(Node) + sizeof(Leaf::heads); at += kLineBytes) {
    __builtin_prefetch(reinterpret_cast<const char*>(node) + at);
  }
}

// Where `key` is in a leaf, or would be.
Found search(const Leaf& leaf, std::string_view key) noexcept {
  const auto head = head_of<Head>(key, leaf.skip);
  const auto rest = key.substr(leaf.skip);
  // Keys often come in ascending order: then they are above all the others. (In the last leaf their
  // heads may all be equal: looking at each made a put of ascending keys a fifth slower.)
  int count = leaf.count;
  if (count != 0 && head >= leaf.heads[count - 1]) {
    const auto order = head > leaf.heads[count - 1]
                           ? -1
                           : leaf.items[count - 1]->key().substr(leaf.skip).compare(rest);
    if (order <= 0) {
      return order == 0 ? Found{count - 1, true} : Found{count, false};
    }
    --count;
  }
  int first = first_not_below(leaf.heads, count, head);
  int end = first;
  while (end < count && leaf.heads[end] == head) {
    ++end;
  }
  while (first < end) {
    const int looked_at = first + (end - first) / 2;
    const auto order = leaf.items[looked_at]->key().substr(leaf.skip).compare(rest);
    if (order == 0) {
      return {looked_at, true};
    }
    if (order < 0) {
      first = looked_at + 1;
    } else {
      end = looked_at;
    }
  }
  return {first, false};
}

// Which child `key` belongs to.
int child_for(const Inner& node, std::string_view key) noexcept {
  const auto head = head_of<Head>(key, node.skip);
  int first = 1 + first_not_below(node.heads + 1, node.count - 1, head);
  int end = first;
  while (end < node.count && node.heads[end] == head) {
    ++end;
  }
  const auto rest = key.substr(node.skip);
  int looked_at = end - 1;  // as in a leaf
  while (first < end) {
    if (node.separators[looked_at]->key().substr(node.skip) <= rest) {
      first = looked_at + 1;
    } else {
      end = looked_at;
    }
    looked_at = first + (end - first) / 2;
  }
  return first - 1;
}

void make_heads(Node& node) noexcept {
  if (node.level == 0) {
    auto& leaf = static_cast<Leaf&>(node);
    for (int i = 0; i < leaf.count; ++i) {
      leaf.heads[i] = head_of<Head>(leaf.items[i]->key(), leaf.skip);
    }
    return;
  }
  auto& inner = static_cast<Inner&>(node);
  for (int i = 1; i < inner.count; ++i) {
    inner.heads[i] = head_of<Head>(inner.separators[i]->key(), inner.skip);
  }
}

// After its fences have come closer.
void raise_skip(Node& node, const Fences& fences) noexcept {
  if (const auto skip = fences.skip_max(); skip >= node.skip + kSkipStep) {
    node.skip = skip;
    make_heads(node);
  }
}

template <typename T>
void open_gap(T* slots, int count, int at) noexcept {
  std::copy_backward(slots + at, slots + count, slots + count + 1);
}
template <typename T>
void close_gap(T* slots, int count, int at) noexcept {
  std::copy(slots + at + 1, slots + count, slots + at);
}

void insert_child(Inner& node, int at, Separator* separator, Node* child) noexcept {
  open_gap(node.heads, node.count, at);
  open_gap(node.separators, node.count, at);
  open_gap(node.children, node.count, at);
  node.heads[at] = head_of<Head>(separator->key(), node.skip);
  node.separators[at] = separator;
  node.children[at] = child;
  ++node.count;
}

void take_child_out(Inner& node, int at) noexcept {
  close_gap(node.heads, node.count, at);
  close_gap(node.separators, node.count, at);
  close_gap(node.children, node.count, at);
  --node.count;
}

bool is_full(const Node& node) noexcept {
  return node.count == (node.level == 0 ? kLeafSlots : kInnerSlots);
}

bool has_few(const Node& node) noexcept {
  return node.count < (node.level == 0 ? kLeafSlots : kInnerSlots) / 4;
}

// Cuts a full child in two, both the parent's own. Where `key` belongs behind all there is, so may
// the next ones: what is there stays together then. Only there: elsewhere nodes would be left with
// next to nothing, and the tree would grow as high as keys are chosen to make it. Returns the
// memory that a new separator takes.
std::uint64_t split_child(Inner& parent, int at, const Fences& fences, std::string_view key) {
  auto& left = *parent.children[at];
  const bool is_last = !fences_of_child(parent, at, fences).to;
  Separator* separator = nullptr;
  Node* right = nullptr;
  if (left.level == 0) {
    auto& from = static_cast<Leaf&>(left);
    const int where = search(from, key).at;
    const int kept = is_last && where == from.count ? from.count : from.count / 2;
    auto to = std::make_unique<Leaf>(from.skip);
    separator = Separator::between(from.items[kept - 1]->key(),
                                   kept == from.count ? key : from.items[kept]->key());
    to->count = static_cast<std::uint16_t>(from.count - kept);
    std::copy_n(from.heads + kept, to->count, to->heads);
    std::copy_n(from.items + kept, to->count, to->items);
    from.count = static_cast<std::uint16_t>(kept);
    right = to.release();
  } else {
    auto& from = static_cast<Inner&>(left);
    const int kept = is_last && child_for(from, key) == from.count - 1
                         ? from.count - 2
                         : from.count / 2;  // 2 at least
    auto* const to = new Inner(from.level, from.skip);
    separator = from.separators[kept];
    to->count = static_cast<std::uint16_t>(from.count - kept);
    std::copy_n(from.heads + kept, to->count, to->heads);
    std::copy_n(from.separators + kept, to->count, to->separators);
    std::copy_n(from.children + kept, to->count, to->children);
    from.count = static_cast<std::uint16_t>(kept);
    right = to;
  }
  insert_child(parent, at + 1, separator, right);
  raise_skip(left, fences_of_child(parent, at, fences));
  raise_skip(*right, fences_of_child(parent, at + 1, fences));
  return left.level == 0 ? separator->memory_bytes() : 0;
}

// What two neighbours hold, in order.
template <typename T, int kSlots>
struct Gathered {
  std::array<T, 2 * kSlots> slots;
  int count = 0;

  void add(const T* from, int many) noexcept {
    std::copy_n(from, many, slots.data() + count);
    count += many;
  }
  void give(int first, int many, T* to) const noexcept {
    std::copy_n(slots.data() + first, many, to);
  }
};

struct Balanced {
  bool merged;
  /// What separators take more of the memory than before.
  std::int64_t separator_bytes;
};

bool fits_one(int count, int slots) noexcept { return count <= slots * 3 / 4; }

// Child `at` of the parent and the next one become one, or have as much as each other. Throws
// std::bad_alloc, and has changed nothing then.
Balanced balance_children(Inner& parent, int at, const Fences& fences) {
  auto& left = *own(parent.children[at]);
  auto& right = *own(parent.children[at + 1]);
  int kept = 0;
  Separator* parting = nullptr;  // the new one, where both stay
  std::int64_t separator_bytes = 0;
  if (left.level == 0) {
    auto& a = static_cast<Leaf&>(left);
    auto& b = static_cast<Leaf&>(right);
    Gathered<Item*, kLeafSlots> items;
    items.add(a.items, a.count);
    items.add(b.items, b.count);
    kept = fits_one(items.count, kLeafSlots) ? items.count : items.count / 2;
    if (kept < items.count) {
      parting = Separator::between(items.slots[static_cast<std::size_t>(kept - 1)]->key(),
                                   items.slots[static_cast<std::size_t>(kept)]->key());
    }
    items.give(0, kept, a.items);
    items.give(kept, items.count - kept, b.items);
    a.count = static_cast<std::uint16_t>(kept);
    b.count = static_cast<std::uint16_t>(items.count - kept);
    separator_bytes =
        (parting == nullptr ? 0 : static_cast<std::int64_t>(parting->memory_bytes())) -
        static_cast<std::int64_t>(parent.separators[at + 1]->memory_bytes());
    parent.separators[at + 1]->release();
  } else {
    auto& a = static_cast<Inner&>(left);
    auto& b = static_cast<Inner&>(right);
    Gathered<Node*, kInnerSlots> children;
    children.add(a.children, a.count);
    children.add(b.children, b.count);
    Gathered<Separator*, kInnerSlots> separators;
    separators.add(a.separators, a.count);
    separators.add(b.separators, b.count);
    separators.slots[a.count] = parent.separators[at + 1];
    const int count = children.count;
    kept = fits_one(count, kInnerSlots) ? count : count / 2;
    if (kept < count) {
      parting = separators.slots[static_cast<std::size_t>(kept)];
    }
    children.give(0, kept, a.children);
    children.give(kept, count - kept, b.children);
    separators.give(0, kept, a.separators);
    separators.give(kept, count - kept, b.separators);
    a.count = static_cast<std::uint16_t>(kept);
    b.count = static_cast<std::uint16_t>(count - kept);
  }
  parent.separators[at + 1] = parting;
  if (parting == nullptr) {
    take_child_out(parent, at + 1);
    release(&right);
  } else {
    parent.heads[at + 1] = head_of<Head>(parting->key(), parent.skip);
    right.skip = fences_of_child(parent, at + 1, fences).skip_max();
    make_heads(right);
  }
  left.skip = fences_of_child(parent, at, fences).skip_max();
  make_heads(left);
  return {.merged = parting == nullptr, .separator_bytes = separator_bytes};
}

Item* find_below(Node* node, std::string_view key) noexcept {
  while (node->level != 0) {
    const auto* const inner = inner_of(node);
    node = inner->children[child_for(*inner, key)];
    prefetch_heads(node);
  }
  const auto* const leaf = leaf_of(node);
  const auto [at, is_there] = search(*leaf, key);
  return is_there ? leaf->items[at] : nullptr;
}

}  // namespace

NodeRef::NodeRef(const NodeRef& other) noexcept : node_(other.node_) {
  if (node_ != nullptr) {
    add_reference(node_);
  }
}

NodeRef::~NodeRef() {
  if (node_ != nullptr) {
    release(node_);
  }
}

}  // namespace index

using index::Fences;
using index::Inner;
using index::inner_of;
using index::Leaf;
using index::leaf_of;
using index::Node;
using index::NodeRef;
using index::Separator;

// --- OrderedIndex
// ---------------------------------------------------------------------------------

OrderedIndex::OrderedIndex() : root_(new Leaf(0)) {}

Item* OrderedIndex::find(std::string_view key) const noexcept {
  return index::find_below(root_.get(), key);
}

// Its leaf, with room for one more, this index's own as all nodes above it are.
void OrderedIndex::descend(std::string_view key, Place& place) {
  // What is copied or split on the way is as good as before if there is no memory for the rest.
  auto*& root = root_.slot();
  if (index::is_full(*index::own(root))) {
    auto* const above = new Inner(static_cast<std::uint16_t>(root->level + 1), 0);
    above->count = 1;
    above->separators[0] = nullptr;
    above->children[0] = root;
    root = above;
    ++nodes_;
  }
  Fences fences;
  auto* node = root;
  while (node->level != 0) {
    auto& inner = *inner_of(node);
    int at = index::child_for(inner, key);
    index::prefetch_heads(inner.children[at]);
    if (index::is_full(*index::own(inner.children[at]))) {
      separator_bytes_ += index::split_child(inner, at, fences, key);
      ++nodes_;
      at += inner.separators[at + 1]->key() <= key ? 1 : 0;
    }
    fences = index::fences_of_child(inner, at, fences);
    node = inner.children[at];
  }
  place = {.leaf = node, .from = fences.from, .to = fences.to};
}

ItemRef OrderedIndex::insert(ItemRef item, Place& place) {
  const auto key = item->key();
  if (place.leaf == nullptr || index::is_full(*place.leaf) || (place.from && key < *place.from) ||
      (place.to && key >= *place.to)) {
    place = {};
    descend(key, place);
  }
  auto& leaf = *leaf_of(place.leaf);
  const auto [at, is_there] = index::search(leaf, key);
  if (is_there) {
    return ItemRef(std::exchange(leaf.items[at], item.detach()));
  }
  index::open_gap(leaf.heads, leaf.count, at);
  index::open_gap(leaf.items, leaf.count, at);
  leaf.heads[at] = head_of<index::Head>(key, leaf.skip);
  leaf.items[at] = item.detach();
  ++leaf.count;
  ++size_;
  return {};
}

ItemRef OrderedIndex::remove(std::string_view key) {
  if (find(key) == nullptr) {
    return {};
  }
  struct Step {
    Inner* node;
    int at;
    Fences fences;
  };
  std::array<Step, kIndexLevelsMax> steps;
  std::size_t depth = 0;
  Fences fences;
  auto*& root = root_.slot();
  auto* node = index::own(root);
  while (node->level != 0) {
    auto& inner = *inner_of(node);
    const int at = index::child_for(inner, key);
    steps[depth++] = {&inner, at, fences};
    fences = index::fences_of_child(inner, at, fences);
    node = index::own(inner.children[at]);
  }
  auto& leaf = *leaf_of(node);
  const int at = index::search(leaf, key).at;
  ItemRef removed(leaf.items[at]);
  index::close_gap(leaf.heads, leaf.count, at);
  index::close_gap(leaf.items, leaf.count, at);
  --leaf.count;
  --size_;
  try {
    while (depth > 0 && index::has_few(*node)) {
      const auto& step = steps[--depth];
      if (step.node->count < 2) {
        break;
      }
      const auto balanced =
          index::balance_children(*step.node, std::max(step.at - 1, 0), step.fences);
      separator_bytes_ += static_cast<std::uint64_t>(balanced.separator_bytes);
      if (!balanced.merged) {
        break;
      }
      --nodes_;
      node = step.node;
    }
  } catch (const std::bad_alloc&) {  // NOLINT(bugprone-empty-catch)
    // Too few in a node is no harm.
  }
  while (root->level != 0 && root->count == 1) {
    auto* const child = inner_of(root)->children[0];
    index::add_reference(child);
    index::release(std::exchange(root, child));
    --nodes_;
  }
  return removed;
}

std::size_t OrderedIndex::levels() const noexcept { return root_.get()->level + std::size_t{1}; }

std::uint64_t OrderedIndex::memory_bytes() const noexcept {
  static_assert(sizeof(Leaf) >= sizeof(Inner));
  return nodes_ * Item::memory_of(sizeof(Leaf)) + separator_bytes_;
}

// --- Views
// ----------------------------------------------------------------------------------------

Item* IndexView::find(std::string_view key) const noexcept {
  return index::find_below(root_.get(), key);
}

void IndexCursor::descend(Node* node, bool to_the_right) noexcept {
  for (;;) {
    const int at = to_the_right ? node->count - 1 : 0;
    steps_[depth_++] = {node, at};
    if (node->level == 0) {
      break;
    }
    node = inner_of(node)->children[at];
  }
}

bool IndexCursor::seek(std::string_view key) noexcept {
  depth_ = 0;
  auto* node = root_;
  while (node->level != 0) {
    const int at = index::child_for(*inner_of(node), key);
    steps_[depth_++] = {node, at};
    node = inner_of(node)->children[at];
  }
  // Perhaps behind the last of its leaf: then the first of the next one.
  steps_[depth_++] = {node, index::search(*leaf_of(node), key).at - 1};
  next();
  return depth_ != 0;
}

bool IndexCursor::seek_below(std::string_view key) noexcept {
  seek(key);
  if (depth_ == 0) {
    return seek_last();
  }
  previous();
  return depth_ != 0;
}

bool IndexCursor::seek_first() noexcept {
  depth_ = 0;
  descend(root_, false);
  if (steps_[depth_ - 1].node->count == 0) {
    next();
  }
  return depth_ != 0;
}

bool IndexCursor::seek_last() noexcept {
  depth_ = 0;
  descend(root_, true);
  if (steps_[depth_ - 1].node->count == 0) {
    previous();
  }
  return depth_ != 0;
}

Item* IndexCursor::item() const noexcept {
  if (depth_ == 0) {
    return nullptr;
  }
  const auto& [node, at] = steps_[depth_ - 1];
  return leaf_of(node)->items[at];
}

void IndexCursor::next() noexcept {
  while (depth_ > 0) {
    auto& [node, at] = steps_[depth_ - 1];
    if (++at < node->count) {
      if (node->level == 0) {
        return;
      }
      descend(inner_of(node)->children[at], false);
      if (steps_[depth_ - 1].node->count > 0) {
        return;
      }
      continue;  // an empty leaf: behind it
    }
    --depth_;
  }
}

void IndexCursor::previous() noexcept {
  while (depth_ > 0) {
    auto& [node, at] = steps_[depth_ - 1];
    if (--at >= 0) {
      if (node->level == 0) {
        return;
      }
      descend(inner_of(node)->children[at], true);
      if (steps_[depth_ - 1].node->count > 0) {
        return;
      }
      continue;
    }
    --depth_;
  }
}

// --- IndexBuilder
// ---------------------------------------------------------------------------------

IndexBuilder::Part::Part(Separator* separator_before, Node* node_of)
    : separator(separator_before), node(node_of) {}
IndexBuilder::Part::Part(Part&& other) noexcept
    : separator(std::exchange(other.separator, nullptr)),
      node(std::exchange(other.node, nullptr)) {}
IndexBuilder::Part& IndexBuilder::Part::operator=(Part&& other) noexcept {
  std::swap(separator, other.separator);
  std::swap(node, other.node);
  return *this;
}
IndexBuilder::Part::~Part() {
  if (separator != nullptr) {
    separator->release();
  }
  if (node != nullptr) {
    index::release(node);
  }
}

void IndexBuilder::add(ItemRef item) {
  if (leaf_.size() == index::kLeafSlotsBuilt) {
    close_leaf(item->key());
  }
  leaf_.push_back(std::move(item));
  ++size_;
}

// The items gathered become a leaf. `next_key` is the first of the next one, if there is one.
void IndexBuilder::close_leaf(std::optional<std::string_view> next_key) {
  Part part(nullptr, new Leaf(0));
  auto& leaf = *leaf_of(part.node);
  Part next(next_key ? Separator::between(leaf_.back()->key(), *next_key) : nullptr, nullptr);
  std::swap(part.separator, next_.separator);
  std::swap(next_.separator, next.separator);
  for (auto& item : leaf_) {
    leaf.items[leaf.count++] = item.detach();
  }
  leaf_.clear();
  if (part.separator != nullptr && next_key) {
    leaf.skip = Fences{part.separator->key(), next_.separator->key()}.skip_max();
  }
  index::make_heads(leaf);
  parts_.push_back(std::move(part));
}

void IndexBuilder::append(IndexBuilder&& other) {
  if (size_ == 0 || other.size_ == 0) {
    if (size_ == 0) {
      std::swap(*this, other);
    }
    return;
  }
  auto& parts = other.parts_;
  close_leaf(parts.empty() ? other.leaf_.front()->key()
                           : leaf_of(parts.front().node)->items[0]->key());
  if (!parts.empty()) {
    std::swap(parts.front().separator, next_.separator);
    std::ranges::move(parts, std::back_inserter(parts_));
    std::swap(next_, other.next_);
  }
  leaf_ = std::move(other.leaf_);
  size_ += other.size_;
  other = IndexBuilder();
}

OrderedIndex IndexBuilder::finish() {
  OrderedIndex built;
  if (size_ == 0) {
    return built;
  }
  close_leaf(std::nullopt);
  built.nodes_ = parts_.size();
  for (const auto& part : parts_) {
    built.separator_bytes_ += part.separator == nullptr ? 0 : part.separator->memory_bytes();
  }
  for (std::uint16_t level = 1; parts_.size() > 1; ++level) {
    // As many to each, so that none is left with one.
    const auto count = (parts_.size() + index::kInnerSlotsBuilt - 1) / index::kInnerSlotsBuilt;
    std::vector<Part> above;
    above.reserve(count);
    std::size_t taken = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const auto end = (i + 1) * parts_.size() / count;
      Part part(nullptr, new Inner(level, 0));
      auto& inner = *inner_of(part.node);
      std::swap(part.separator, parts_[taken].separator);
      if (part.separator != nullptr && end < parts_.size()) {
        inner.skip = Fences{part.separator->key(), parts_[end].separator->key()}.skip_max();
      }
      for (; taken < end; ++taken) {
        inner.separators[inner.count] = std::exchange(parts_[taken].separator, nullptr);
        inner.children[inner.count++] = std::exchange(parts_[taken].node, nullptr);
      }
      index::make_heads(inner);
      above.push_back(std::move(part));
    }
    built.nodes_ += count;
    parts_ = std::move(above);
  }
  built.root_ = NodeRef(std::exchange(parts_.front().node, nullptr));
  built.size_ = size_;
  *this = IndexBuilder();
  return built;
}

}  // namespace nori
