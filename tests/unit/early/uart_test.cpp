#include "hyp/early/uart.hpp"

#include <gtest/gtest.h>

#include <string>

#include "hyp/early/start.hpp"

namespace weir::early {
namespace {

// A UART's registers, of either kind. Accesses of a width or at a place that it does not have fail.
class Model {
 public:
  explicit Model(const Uart& uart) : uart_{uart} {}

  std::uint32_t read(std::uint64_t at, unsigned width) {
    EXPECT_EQ(width, uart_.width);
    EXPECT_EQ(at, uart_.base + (pl011() ? 0x18U : 5U << uart_.shift));
    ++looks;
    const bool ready = busy == 0;
    if (busy != 0 && busy != kForEver) --busy;
    // What else the status says, at random: only room counts.
    const std::uint32_t noise = looks * 0x9e37'79b9U & ~(1U << 5);
    return pl011() ? (ready ? 0 : 1U << 5) | noise : (ready ? 1U << 5 : 0) | noise;
  }
  void write(std::uint64_t at, unsigned width, std::uint32_t value) {
    EXPECT_EQ(width, uart_.width);
    EXPECT_EQ(at, uart_.base);
    EXPECT_EQ(busy, 0U) << "written without room";
    EXPECT_LE(value, 0xffU);
    text += static_cast<char>(value);
    busy = between;
  }

  static constexpr unsigned kForEver = ~0U;
  unsigned busy = 0, between = 0, looks = 0;
  std::string text;

 private:
  [[nodiscard]] bool pl011() const { return uart_.kind == UartKind::pl011; }
  Uart uart_;
};

constexpr Uart kAll[] = {{0x900'0000, UartKind::pl011, 0, 4},  {0x900'0000, UartKind::pl011, 0, 2},
                         {0x280'0000, UartKind::ns8250, 0, 1}, {0x280'0000, UartKind::ns8250, 2, 4},
                         {0x280'0000, UartKind::ns8250, 1, 2}, {0x280'0000, UartKind::ns8250, 2, 1}};

TEST(EarlyUart, WritesWhenThereIsRoom) {
  for (const Uart& uart : kAll) {
    Model model{uart};
    model.busy = 3;
    model.between = 2;
    for (const char c : std::string{"a\xff\n"}) EXPECT_TRUE(put(uart, model, c));
    EXPECT_EQ(model.text, "a\xff\n");
    EXPECT_EQ(model.looks, 4U + 3 + 3);
  }
}

TEST(EarlyUart, GivesUp) {
  for (const Uart& uart : kAll) {
    Model model{uart};
    model.busy = Model::kForEver;
    EXPECT_FALSE(put(uart, model, 'a'));
    EXPECT_EQ(model.looks, kPatience);
    EXPECT_EQ(model.text, "");
  }
  Model none{{}};
  EXPECT_FALSE(put(Uart{}, none, 'a'));
  EXPECT_EQ(none.looks, 0U);
}

TEST(EarlyStart, GranulesThatTheTablesNeed) {
  const auto lack = [](std::uint8_t stage1, std::uint8_t stage2) {
    return lack_of(IdAa64Mmfr0{}.set<IdAa64Mmfr0::TGran4>(stage1).set<IdAa64Mmfr0::TGran4_2>(stage2));
  };
  EXPECT_EQ(lack(0, 0), Lack::nothing);
  EXPECT_EQ(lack(1, 2), Lack::nothing);
  EXPECT_EQ(lack(1, 3), Lack::nothing);
  EXPECT_EQ(lack(0xf, 0), Lack::granule);
  EXPECT_EQ(lack(0, 1), Lack::stage2_granule);
}

TEST(PhysicalSize, IsWhatTablesCanHold) {
  const auto size = [](std::uint8_t range) {
    return bits(physical_size(IdAa64Mmfr0{}.set<IdAa64Mmfr0::PARange>(range)));
  };
  constexpr unsigned kExpected[16] = {32, 36, 40, 42, 44, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48, 48};
  for (std::uint8_t range = 0; range < 16; ++range) EXPECT_EQ(size(range), kExpected[range]) << int{range};
  EXPECT_EQ(end_of_addresses(smmu::AddressSize::bits44), PA{0x1000'0000'0000});
}

}  // namespace
}  // namespace weir::early
