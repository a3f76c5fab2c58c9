// From head.S, on the boot pCPU: MMU on, on its stack, nothing else.

#include "hyp/arch/pcpu.hpp"
#include "hyp/boot/image.hpp"
#include "hyp/boot/start.hpp"

namespace weir {

namespace {
constinit PA loaded_at{};
}

PA image_base() { return loaded_at; }

extern "C" [[noreturn]] void boot_main(std::uint64_t dtb, std::uint64_t base) {
  loaded_at = PA{base};
  boot_pcpu_init();
  start(PA{dtb});
}

void run_constructors() {
  for (auto* p = __init_array_start; p < __init_array_end; ++p) (*p)();
}

}  // namespace weir
