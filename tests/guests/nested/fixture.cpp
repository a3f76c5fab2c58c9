#include "tests/guests/nested/fixture.hpp"

#include "tests/guests/bare/machine.hpp"
#include "tests/guests/bare/report.hpp"

namespace weir::guest {
namespace {

constinit Fixture the_fixture{};

constexpr std::uint64_t canary(std::uint64_t at) { return (at >> 3) * 0x9e37'79b9'7f4a'7c15 | 1; }
volatile std::uint64_t& word(std::uint64_t at) { return *reinterpret_cast<volatile std::uint64_t*>(at); }

}  // namespace

Fixture& fixture() { return the_fixture; }

void refill(std::uint64_t page) {
  for (std::uint64_t at = page; at < page + kPage; at += 8) word(at) = canary(at);
  barrier();
}
std::uint64_t make_page() {
  const std::uint64_t page = allocate(kPage);
  refill(page);
  return page;
}
bool untouched(std::uint64_t page) {
  barrier();
  for (std::uint64_t at = page; at < page + kPage; at += 8)
    if (word(at) != canary(at)) return false;
  return true;
}
bool written(std::uint64_t page, std::uint64_t offset, std::uint64_t bytes) {
  barrier();
  bool ok = true;
  for (std::uint64_t at = page; at < page + kPage; at += 4) {
    const auto shift = at % 8 * 8;
    const auto kept = static_cast<std::uint32_t>(canary(at & ~std::uint64_t{7}) >> shift);
    const bool inside = at >= page + offset && at < page + offset + bytes;
    ok = ok && load32(at) == (inside ? TestDevice::kPattern : kept);
  }
  refill(page);
  return ok;
}

bool expect_lands(const Device& d, std::uint64_t iova, std::uint64_t page, std::string_view what) {
  const Fixture& f = the_fixture;
  const std::uint64_t offset = iova % kPage;
  const auto result = d.dma.dma(iova, f.physical(page) + offset);
  const bool seen = written(page, offset);
  return expect(result == TestDevice::ok && seen, what, d.slot, result);
}

bool expect_refused(const Device& d, std::uint64_t iova, std::uint64_t page, std::string_view what) {
  const auto result = d.dma.dma(iova, the_fixture.physical(page));
  const bool clean = untouched(page);
  if (!clean) refill(page);
  return expect(result == TestDevice::write_fault && clean, what, d.slot, result);
}

bool expect_fault(const Device& d, smmu::EventId id, std::uint64_t iova, std::string_view what) {
  Smmu& smmu = the_fixture.smmu(d);
  bool ok = expect(smmu.sync(), what, d.slot);
  smmu::Event e;
  if (!expect(smmu.next_event(e), what, d.slot)) return false;
  ok = expect_equal(static_cast<std::uint64_t>(e.id()), static_cast<std::uint64_t>(id), what) && ok;
  ok = expect_equal(e.get<smmu::Event::StreamID>(), d.sid, what) && ok;
  smmu::FTranslation fault;
  fault.words = e.words;
  if (id >= smmu::EventId::F_TRANSLATION && id <= smmu::EventId::F_PERMISSION) {
    using F = smmu::FTranslation;
    ok = expect_equal(fault.get<F::InputAddr>().value, iova, what) && ok;
    ok = expect(!fault.get<F::RnW>() && !fault.get<F::S2>() && !fault.get<F::Stall>(), what, fault.words[1]) && ok;
    ok = expect_equal(fault.get<F::IPA>().value, 0, what) && ok;
  }
  return expect_equal(smmu.drop_events(), 0, what) && ok;
}

bool expect_no_event(const Device& d, std::string_view what) {
  Smmu& smmu = the_fixture.smmu(d);
  const bool ok = expect(smmu.sync(), what, d.slot);
  smmu::Event e;
  if (!smmu.next_event(e)) return ok;
  (void)smmu.drop_events();
  return expect(false, what, e.words[0], e.words[2]);
}

bool install(const Device& d, const smmu::Ste& ste) {
  Smmu& smmu = the_fixture.smmu(d);
  smmu.set_ste(d.sid, ste);
  return expect(smmu.sync(smmu::cfgi_ste(StreamID{d.sid}, true)), "CFGI_STE and SYNC", d.slot);
}

}  // namespace weir::guest
