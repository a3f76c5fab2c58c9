#include "hyp/pci/stop_dma.hpp"

#include <gtest/gtest.h>

#include "tests/unit/pci/fake_config.hpp"

namespace weir::pci {
namespace {

using namespace test;

constexpr Rid kRid{0, 1, 0};
constexpr std::uint16_t kExpress = 0x40;

struct StopDma : testing::Test {
  StopDma() {
    card.set(kCommand, 4, 0x0010'0006);  // decoding and bus mastering on; there are capabilities
    card.set(kCapabilities, 1, kExpress);
    card.set(kExpress, 4, kCapExpress);
    card.writable[kCommand] = 0xff;
    config.put(0, 1 << 3, card);
  }
  FakeFunction card;
  FakeBus config;
};

TEST_F(StopDma, TakesBusMasteringAndNothingElse) {
  EXPECT_TRUE(stop_dma(config, kRid));
  EXPECT_EQ(card.get(kCommand, 4), 0x0010'0002u);
}

TEST_F(StopDma, WaitsForWhatHasBegun) {
  card.set(kExpress + kExpressDeviceControl, 4, 1u << 21);  // Transactions Pending
  EXPECT_FALSE(stop_dma(config, kRid));
  card.set(kExpress + kExpressDeviceControl, 4, 0);
  EXPECT_TRUE(stop_dma(config, kRid));
}

TEST_F(StopDma, DoesNotBelieveInWhatCannotBeCleared) {
  card.writable[kCommand] = 0;
  EXPECT_FALSE(stop_dma(config, kRid));
}

TEST_F(StopDma, AFunctionThatIsGoneDoesNothing) { EXPECT_TRUE(stop_dma(config, Rid{0, 2, 0})); }

}  // namespace
}  // namespace weir::pci
