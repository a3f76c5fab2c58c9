// Table pages set aside before anything changes. Internal to Table.
#pragma once

#include "stage2/table.hpp"

namespace weir::stage2 {

// Pages taken out of it are linked, the rest goes back: nothing could have walked it.
class Table::Reserve {
 public:
  explicit Reserve(Table& table) : table_{table} {}
  Reserve(const Reserve&) = delete;
  Reserve& operator=(const Reserve&) = delete;
  ~Reserve() {
    for (auto* list : {&inner_, &last_})
      list->clear_and_dispose([this](TableNode* node) {
        table_.pages_.free(node->at, node->bytes);
        delete node;
      });
  }

  [[nodiscard]] bool grow(const Count& count) {
    return grow(inner_, count.inner, kLastLevel - 1) && grow(last_, count.last, kLastLevel);
  }
  // For a table of `level`. grow() has provided for it.
  TableNode& take(unsigned level) {
    auto& list = level == kLastLevel ? last_ : inner_;
    TableNode& node = list.front();
    list.pop_front();
    table_.adopt(node);
    return node;
  }

 private:
  using List = boost::intrusive::list<TableNode>;
  [[nodiscard]] bool grow(List& list, std::size_t count, unsigned level) {
    for (; count != 0; --count) {
      TableNode* node = table_.new_node(kPage4K, level);
      if (node == nullptr) return false;
      list.push_front(*node);
    }
    return true;
  }

  Table& table_;
  List inner_, last_;
};

}  // namespace weir::stage2
