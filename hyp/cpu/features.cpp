#include "hyp/cpu/features.hpp"

#include "hyp/cpu/el2_controls.hpp"
#include "hyp/cpu/el3_controls.hpp"
#include "hyp/cpu/feature_table.hpp"

namespace weir {

std::uint64_t sanitised_id(IdRegister reg, IdSource cpu) {
  std::uint64_t value = 0;
  for (const Feature& f : feature_table())
    if (f.field.reg == reg) value |= f.shown(cpu);
  return value;
}

El2Controls el2_controls(IdSource cpu) {
  El2Controls c;
  c.has_sve = may_touch(FeatureRegisters::sve, cpu);
  c.has_sme = may_touch(FeatureRegisters::sme, cpu);
  c.has_pmu = may_touch(FeatureRegisters::pmu, cpu);
  c.has_hcrx = may_touch(FeatureRegisters::hcrx, cpu);
  c.has_fgt = may_touch(FeatureRegisters::fgt, cpu);
  c.has_fgt2 = may_touch(FeatureRegisters::fgt2, cpu);
  c.has_ras = may_touch(FeatureRegisters::ras, cpu);
  c.vmid16 = id_field(cpu, id::kVmidBits) == 2;

  c.hcr = HcrEl2{}
              .set<HcrEl2::VM>(true)
              .set<HcrEl2::SWIO>(true)
              .set<HcrEl2::PTW>(true)
              .set<HcrEl2::FMO>(true)
              .set<HcrEl2::IMO>(true)
              .set<HcrEl2::AMO>(true)
              .set<HcrEl2::TID3>(true)
              .set<HcrEl2::TSC>(true)
              .set<HcrEl2::TIDCP>(true)
              .set<HcrEl2::TACR>(true)
              .set<HcrEl2::RW>(true)
              .set<HcrEl2::TLOR>(true)
              .set<HcrEl2::TERR>(true)
              .words[0];
  c.hcrx = HcrxEl2{}.set<HcrxEl2::TALLINT>(true).words[0];
  c.cptr = CptrEl2{}
               .set<CptrEl2::Res1_7_0>(CptrEl2::Res1_7_0::max)
               .set<CptrEl2::Res1_9>(true)
               .set<CptrEl2::Res1_13>(true)
               .set<CptrEl2::TZ>(!c.has_sve)
               .set<CptrEl2::TSM>(!c.has_sme)
               .set<CptrEl2::TTA>(true)
               .set<CptrEl2::TAM>(true)
               .words[0];
  c.mdcr = MdcrEl2{}
               .set<MdcrEl2::TPMCR>(true)
               .set<MdcrEl2::TPM>(true)
               .set<MdcrEl2::TDRA>(true)
               .set<MdcrEl2::TPMS>(true)
               .set<MdcrEl2::TTRF>(true)
               .set<MdcrEl2::TDCC>(c.has_fgt)
               .words[0];
  c.zcr = ZcrEl2{}.set<ZcrEl2::LEN>(ZcrEl2::LEN::max).words[0];
  c.smcr = SmcrEl2{}
               .set<SmcrEl2::LEN>(SmcrEl2::LEN::max)
               .set<SmcrEl2::EZT0>(may_touch(FeatureRegisters::sme_zt0, cpu))
               .set<SmcrEl2::FA64>(may_touch(FeatureRegisters::sme_fa64, cpu))
               .words[0];

  for (const Feature& f : feature_table()) {
    if (f.enables.list.empty() || !f.shows(cpu, f.enables.from)) continue;
    for (const Enable& e : f.enables.list) {
      if (e.control == Control::hcr) c.hcr |= e.bits;
      if (e.control == Control::hcrx) c.hcrx |= e.bits;
      if (e.control == Control::hfgrtr) c.hfgrtr |= e.bits;
      if (e.control == Control::hfgitr) c.hfgitr |= e.bits;
    }
  }
  return c;
}

}  // namespace weir
