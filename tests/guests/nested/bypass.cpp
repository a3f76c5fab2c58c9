// With the SMMU off, and streams without stage 1.
#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/report.hpp"
#include "tests/guests/nested/fixture.hpp"

namespace weir::guest {

void check_bypass() {
  check("bypass");
  Fixture& f = fixture();
  const std::uint64_t page = make_page(), other = make_page();
  for (unsigned i = 0; i < f.device_count; ++i) {
    const Device& d = f.devices[i];
    expect_lands(d, page + 8 * i, page, "DMA with the SMMU off");
    // The comparison can fail: elsewhere there is something else.
    expect_equal(d.dma.dma(page, f.physical(other)), TestDevice::mismatch, "comparison with another page");
    refill(page);
    expect(untouched(other), "another page was written");
    if (!f.nested) continue;
    const std::uint64_t outside = machine().ram + machine().ram_bytes;
    expect_refused(d, outside, page, "with the SMMU off, DMA past the end of RAM");
    // A device's address is not a physical one: this one is the VM's page, but not as the VM numbers it.
    if (f.to_physical >= machine().ram_bytes) expect_refused(d, f.physical(page), page, "DMA to a physical address");
  }
}

void check_gbpa() {
  check("gbpa");
  Fixture& f = fixture();
  const std::uint64_t page = make_page();
  for (unsigned s = 0; s < f.smmu_count; ++s) expect(f.smmus[s].set_gbpa_abort(true), "GBPA.ABORT = 1", s);
  for (unsigned i = 0; i < f.device_count; ++i) expect_refused(f.devices[i], page, page, "DMA with GBPA.ABORT");
  for (unsigned s = 0; s < f.smmu_count; ++s) expect(f.smmus[s].set_gbpa_abort(false), "GBPA.ABORT = 0", s);
  for (unsigned i = 0; i < f.device_count; ++i) expect_lands(f.devices[i], page, page, "DMA without GBPA.ABORT");
}

void check_streams() {
  Fixture& f = fixture();
  const std::uint64_t page = make_page();
  for (unsigned i = 0; i < f.device_count; ++i) {
    const Device& d = f.devices[i];
    check("ste-invalid");
    (void)f.smmu(d).drop_events();
    expect_refused(d, page, page, "DMA of a stream with V = 0");
    expect_fault(d, smmu::EventId::C_BAD_STE, 0, "event of a stream with V = 0");
    check("ste-bypass");
    install(d, Smmu::of(smmu::SteConfig::bypass));
    expect_lands(d, page + 16, page, "DMA of a bypassing stream");
    check("ste-abort");
    install(d, Smmu::of(smmu::SteConfig::abort));
    expect_refused(d, page, page, "DMA of an aborting stream");
    expect_no_event(d, "an aborting stream is silent");
    // Some firmware invalidates nothing but everything.
    check("cfgi-all");
    f.smmu(d).set_ste(d.sid, Smmu::of(smmu::SteConfig::bypass));
    expect(f.smmu(d).sync(smmu::cfgi_all()), "CFGI_ALL and SYNC");
    expect_lands(d, page + 32, page, "DMA after CFGI_ALL");
    install(d, {});
  }
}

void check_disable() {
  check("disable");
  Fixture& f = fixture();
  const std::uint64_t page = make_page();
  for (unsigned s = 0; s < f.smmu_count; ++s) expect(f.smmus[s].set_enabled(false), "SMMUEN = 0", s);
  for (unsigned i = 0; i < f.device_count; ++i) expect_lands(f.devices[i], page, page, "DMA with the SMMU off again");
}

}  // namespace weir::guest
