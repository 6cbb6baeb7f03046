// A store's index: items in the order of their keys.
//
// A B+ tree whose nodes are shared. Whoever holds a root holds everything below it as it is now, at
// the cost of one reference; a change copies, on its way down, exactly the nodes that somebody else
// holds, and changes those that nobody does where they are. (Graefe, "Modern B-Tree Techniques",
// section 6; immer calls the second half transience.)
//
// A node compares keys by their *heads*: four of their bytes as one number, in an array, so that
// an item is looked at only where heads are equal. All keys that can come to a node lie between two
// separators above it, so they share what those two share; heads begin behind that, at `skip`.
// Separators are as short as can be (Bayer and Unterauer, "Prefix B-trees").
//
// Compared with std::map and absl::btree_map in
// docs/decisions/0007-a-store-is-a-tree-of-shared-nodes.md.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "store/item.h"

namespace nori {

namespace index {

class Separator;
struct Node;

/// A reference to a node, or to none.
class NodeRef {
 public:
  NodeRef() noexcept = default;
  /// Takes the caller's reference over.
  explicit NodeRef(Node* node) noexcept : node_(node) {}
  NodeRef(const NodeRef& other) noexcept;
  NodeRef(NodeRef&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
  NodeRef& operator=(NodeRef other) noexcept {
    std::swap(node_, other.node_);
    return *this;
  }
  ~NodeRef();

  [[nodiscard]] Node* get() const noexcept { return node_; }
  /// What it is, to be exchanged.
  [[nodiscard]] Node*& slot() noexcept { return node_; }

 private:
  Node* node_ = nullptr;
};

}  // namespace index

// Nodes have twelve children at least, but for the last one of a level, which has two: more leaves
// than there is memory for.
inline constexpr std::size_t kIndexLevelsMax = 12;

/// The items of an index at one moment. Threads: any, one at a time.
class IndexView {
 public:
  IndexView() = default;

  /// nullptr if there is none. Valid as long as the view.
  [[nodiscard]] Item* find(std::string_view key) const noexcept;

 private:
  friend class OrderedIndex;
  friend class IndexCursor;
  explicit IndexView(index::NodeRef root) : root_(std::move(root)) {}

  index::NodeRef root_;
};

/// A place in a view, which has to outlive it. Items are valid as long as the view.
class IndexCursor {
 public:
  explicit IndexCursor(const IndexView& view) noexcept : root_(view.root_.get()) {}

  /// To the first item whose key is `key` or above; false if there is none.
  bool seek(std::string_view key) noexcept;
  bool seek_first() noexcept;
  bool seek_last() noexcept;
  /// To the last item whose key is below `key`.
  bool seek_below(std::string_view key) noexcept;
  /// nullptr behind the last, and before the first.
  [[nodiscard]] Item* item() const noexcept;
  void next() noexcept;
  void previous() noexcept;

 private:
  struct Step {
    index::Node* node;
    int at;
  };

  void descend(index::Node* node, bool to_the_right) noexcept;

  index::Node* root_;
  std::array<Step, kIndexLevelsMax> steps_;
  std::size_t depth_ = 0;  ///< 0: nowhere.
};

/// Threads: none. A view that was taken before is not changed by anything, and may be used and let
/// go by other threads meanwhile.
class OrderedIndex {
 public:
  OrderedIndex();
  OrderedIndex(OrderedIndex&&) noexcept = default;
  OrderedIndex& operator=(OrderedIndex&&) noexcept = default;

  [[nodiscard]] IndexView view() const { return IndexView(root_); }
  /// nullptr if there is none. Valid until the next change.
  [[nodiscard]] Item* find(std::string_view key) const noexcept;

  /// Where the last of several items went: the next one often goes there too, and is not sought
  /// from the root (ascending keys, in batches of 100: 1.5 times as many a second). Good until
  /// anything else is done with the index, taking a view included.
  struct Place {
    index::Node* leaf = nullptr;
    // What parts its keys from those of its neighbours.
    std::optional<std::string_view> from;
    std::optional<std::string_view> to;
  };
  /// Puts `item` in the place of the one with its key, which is returned, or beside the others.
  /// Throws std::bad_alloc, and has changed nothing then.
  ItemRef insert(ItemRef item, Place& place);
  ItemRef insert(ItemRef item) {
    Place place;
    return insert(std::move(item), place);
  }
  /// Returns what it took out. Throws std::bad_alloc, and has changed nothing then.
  ItemRef remove(std::string_view key);

  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  /// Of nodes on the way to an item.
  [[nodiscard]] std::size_t levels() const noexcept;
  /// Of its nodes and separators, not of the items, nor of what only older views still hold.
  [[nodiscard]] std::uint64_t memory_bytes() const noexcept;

 private:
  friend class IndexBuilder;
  void descend(std::string_view key, Place& place);

  index::NodeRef root_;
  std::uint64_t size_ = 0;
  std::uint64_t nodes_ = 1;
  std::uint64_t separator_bytes_ = 0;
};

/// Builds an index from items that come in order: several times as fast as inserting them.
class IndexBuilder {
 public:
  /// Its key is above the one before.
  void add(ItemRef item);
  /// What `other` was given comes behind what this one was. For threads that build a part each.
  void append(IndexBuilder&& other);
  [[nodiscard]] OrderedIndex finish();

 private:
  // A node, and what parts it from the one before.
  struct Part {
    Part(index::Separator* separator_before, index::Node* node_of);
    Part(Part&& other) noexcept;
    Part& operator=(Part&& other) noexcept;
    ~Part();

    index::Separator* separator;
    index::Node* node;
  };
  void close_leaf(std::optional<std::string_view> next_key);

  std::vector<ItemRef> leaf_;
  std::vector<Part> parts_;
  Part next_{nullptr, nullptr};  ///< What parts the next leaf from the last one.
  std::uint64_t size_ = 0;
};

}  // namespace nori
