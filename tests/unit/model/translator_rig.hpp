// A translator alone, with a linear stream table, and tables of any granule.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <random>

#include "tests/model/config.hpp"
#include "tests/model/memory.hpp"
#include "tests/model/parameters.hpp"
#include "tests/model/translation.hpp"

namespace weir::model::test {

// Bits of descriptors.
inline constexpr std::uint64_t kLeafUser = 1 << 6;
inline constexpr std::uint64_t kLeafReadOnly = 1 << 7;
inline constexpr std::uint64_t kLeafAf = 1 << 10;
inline constexpr std::uint64_t kLeafNg = 1 << 11;
inline constexpr std::uint64_t kLeafDbm = std::uint64_t{1} << 51;
inline constexpr std::uint64_t kLeafContiguous = std::uint64_t{1} << 52;
inline constexpr std::uint64_t kLeafPxn = std::uint64_t{1} << 53;
inline constexpr std::uint64_t kLeafUxn = std::uint64_t{1} << 54;
inline constexpr std::uint64_t kTablePxn = std::uint64_t{1} << 59;
inline constexpr std::uint64_t kTableUxn = std::uint64_t{1} << 60;
inline constexpr std::uint64_t kTableNoUser = std::uint64_t{1} << 61;
inline constexpr std::uint64_t kTableReadOnly = std::uint64_t{1} << 62;
inline constexpr std::uint64_t kUserRw = kLeafUser | kLeafAf | kLeafNg;
inline constexpr std::uint64_t kS2Read = 1 << 6;
inline constexpr std::uint64_t kS2Write = 1 << 7;
inline constexpr std::uint64_t kS2All = kS2Read | kS2Write | kLeafAf | (0xf << 2);

// Tables of 4, 16 or 64 KiB (12, 14, 16) for `input` bits from level `start`, where addresses in them are physical.
class GranuleTables {
 public:
  GranuleTables(PhysicalMemory& memory, unsigned granule, unsigned input, int start)
      : memory_{memory}, granule_{granule}, input_{input}, start_{start} {
    root_ = memory.allocate(std::size_t{8} << (input - shift(start))).value;
  }
  [[nodiscard]] std::uint64_t root() const { return root_; }
  [[nodiscard]] unsigned granule() const { return granule_; }
  [[nodiscard]] unsigned shift(int level) const { return granule_ + (granule_ - 3) * static_cast<unsigned>(3 - level); }
  [[nodiscard]] std::uint64_t bytes(int level) const { return std::uint64_t{1} << shift(level); }
  // The address of the descriptor; makes the tables above it.
  [[nodiscard]] std::uint64_t descriptor(std::uint64_t address, int level = 3) {
    address &= (std::uint64_t{1} << input_) - 1;
    std::uint64_t table = root_;
    for (int at = start_;; ++at) {
      const std::uint64_t entries = std::uint64_t{1} << (granule_ - 3);
      const std::uint64_t index = at == start_ ? address >> shift(at) : (address >> shift(at)) & (entries - 1);
      const std::uint64_t where = table + index * 8;
      if (at == level) return where;
      if ((load(where) & 3) != 3) {
        const std::uint64_t next = memory_.allocate(std::size_t{1} << granule_).value;
        store(where, next | 3 | table_flags);
        if (on_table) on_table(next);
      }
      table = load(where) & bit_mask(47, granule_);
    }
  }
  void map(std::uint64_t address, std::uint64_t to, std::uint64_t flags = kUserRw, int level = 3) {
    store(descriptor(address, level), to | flags | (level == 3 ? 3 : 1));
  }
  void unmap(std::uint64_t address, int level = 3) { store(descriptor(address, level), 0); }
  [[nodiscard]] std::uint64_t load(std::uint64_t at) const { return memory_.load<std::uint64_t>(PA{at}).value_or(0); }
  void store(std::uint64_t at, std::uint64_t value) const { ASSERT_TRUE(memory_.store(PA{at}, value)); }

  std::uint64_t table_flags = 0;
  std::function<void(std::uint64_t)> on_table;  // a new table lies there

 private:
  PhysicalMemory& memory_;
  unsigned granule_;
  unsigned input_;
  int start_;
  std::uint64_t root_;
};

class TranslatorRig : public testing::Test {
 protected:
  static constexpr std::uint64_t kVa = 0x4000'0000;

  void start(Parameters p = Parameters::everything()) {
    p.s1p = p.s2p = true;
    parameters = p;
    random.seed(p.seed);
    translator = std::make_unique<Translator>(memory, parameters, random);
    strtab = memory.allocate(64 * sizeof(smmu::Ste));
    using namespace smmu;
    controls = {};
    controls.cr0.set<CR0::SMMUEN>(true).set<CR0::ATSCHK>(true);
    controls.cr1.set<CR1::TABLE_IC>(QueueCacheability::write_back).set<CR1::TABLE_OC>(QueueCacheability::write_back);
    controls.cr2.set<CR2::RECINVSID>(true);
    controls.strtab_base.set<STRTAB_BASE::ADDR>(strtab.value);
    controls.strtab_base_cfg.set<STRTAB_BASE_CFG::LOG2SIZE>(6);
  }
  void put_ste(std::uint32_t sid, const smmu::Ste& ste) {
    ASSERT_TRUE(memory.store(strtab + sid * sizeof(smmu::Ste), ste));
  }
  [[nodiscard]] PA put_cd(const smmu::Cd& cd) {
    const PA at = memory.allocate(kPage4K);
    EXPECT_TRUE(memory.store(at, cd));
    return at;
  }
  [[nodiscard]] std::uint64_t page() { return memory.allocate(kPage4K).value; }
  [[nodiscard]] static smmu::Cd cd_of(std::uint64_t ttb, unsigned granule = 12, unsigned input = 39,
                                      std::uint16_t asid = 7) {
    using namespace smmu;
    return Cd{}
        .set<Cd::V>(true)
        .set<Cd::AA64>(true)
        .set<Cd::T0SZ>(64 - input)
        .set<Cd::TG0>(granule == 12   ? Granule0::size4k
                      : granule == 14 ? Granule0::size16k
                                      : Granule0::size64k)
        .set<Cd::EPD1>(true)
        .set<Cd::IPS>(AddressSize::bits44)
        .set<Cd::R>(true)
        .set<Cd::A>(true)
        .set<Cd::ASET>(true)
        .set<Cd::ASID>(ASID{asid})
        .set<Cd::TTB0>(IPA{ttb})
        .set<Cd::MAIR0>(0xff);
  }
  [[nodiscard]] static smmu::Ste s1_of(PA cd, std::uint16_t vmid = 1) {
    using namespace smmu;
    return Ste{}
        .set<Ste::V>(true)
        .set<Ste::Config>(SteConfig::s1)
        .set<Ste::S1ContextPtr>(IPA{cd.value})
        .set<Ste::S2VMID>(VMID{vmid});
  }
  [[nodiscard]] static smmu::Ste with_s2(smmu::Ste ste, smmu::SteConfig config, const GranuleTables& tables,
                                         unsigned input = 39, unsigned sl0 = 1, std::uint16_t vmid = 1) {
    using namespace smmu;
    return ste.set<Ste::V>(true)
        .set<Ste::Config>(config)
        .set<Ste::S2VMID>(VMID{vmid})
        .set<Ste::S2T0SZ>(64 - input)
        .set<Ste::S2SL0>(sl0)
        .set<Ste::S2TG>(tables.granule() == 12   ? Granule0::size4k
                        : tables.granule() == 14 ? Granule0::size16k
                                                 : Granule0::size64k)
        .set<Ste::S2PS>(AddressSize::bits44)
        .set<Ste::S2AA64>(true)
        .set<Ste::S2R>(true)
        .set<Ste::S2TTB>(PA{tables.root()});
  }
  [[nodiscard]] std::expected<Translation, Fault> go(const Access& access) {
    return translator->translate(access, controls);
  }
  [[nodiscard]] std::uint64_t read(std::uint64_t va, std::uint32_t sid = 1,
                                   std::optional<SubstreamID> ssid = std::nullopt) {
    const auto t = go({.sid = StreamID{sid}, .ssid = ssid, .address = va});
    return t ? t->address : 0;
  }
  [[nodiscard]] std::uint64_t written(std::uint64_t va, std::uint32_t sid = 1) {
    const auto t = go({.sid = StreamID{sid}, .address = va, .write = true});
    return t ? t->address : 0;
  }
  // The fault of an access that must fail.
  [[nodiscard]] Fault failure(const Access& access) {
    const auto t = go(access);
    EXPECT_FALSE(t);
    return t ? Fault{} : t.error();
  }
  [[nodiscard]] Fault failure(std::uint64_t va, std::uint32_t sid = 1) {
    return failure({.sid = StreamID{sid}, .address = va});
  }
  void run(const smmu::Command& c) { translator->execute(c, controls); }
  // Everything is forgotten.
  void flush() {
    run(smmu::cfgi_all());
    run(smmu::tlbi_nsnh_all());
  }

  PhysicalMemory memory;
  Parameters parameters;
  std::mt19937_64 random;
  std::unique_ptr<Translator> translator;
  Controls controls;
  PA strtab;
};

}  // namespace weir::model::test
