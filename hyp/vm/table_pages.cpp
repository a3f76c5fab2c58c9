#include "hyp/vm/table_pages.hpp"

#include "hyp/arch/barriers.hpp"
#include "hyp/arch/cache.hpp"
#include "hyp/mem/pages.hpp"

namespace weir {
namespace {

class Pages final : public stage2::TablePages {
 public:
  constexpr explicit Pages(bool clean) : clean_{clean} {}
  std::optional<PA> allocate(std::size_t bytes) override {
    const auto at = allocate_pages(bytes, bytes);
    if (!at) return std::nullopt;
    return *at;
  }
  void free(PA at, std::size_t bytes) override { free_pages(at, bytes); }
  void* pointer(PA at) override { return direct(at); }
  std::optional<std::uintptr_t> linear_offset() const override { return 0; }  // direct()
  void publish(const void* at, std::size_t bytes) override {
    if (clean_) clean_to_poc(at, bytes);
    dsb_st();  // full system: SMMUs may be outer shareable
  }

 private:
  bool clean_;
};

constinit Pages coherent{false};
constinit Pages cleaned{true};

}  // namespace

stage2::TablePages& coherent_table_pages() { return coherent; }
stage2::TablePages& cleaned_table_pages() { return cleaned; }

}  // namespace weir
