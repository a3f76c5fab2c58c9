// Compares what the physical SMMUs will read with what Weir believes: stream tables, stage-2 tables, VMIDs. To be called between
// any two operations; everything that it looks at, it looks at through memory, as the hardware does.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "guest-abi/smmu/ste.hpp"
#include "hyp/smmu/instance.hpp"
#include "stage2/domain.hpp"
#include "tests/model/smmu.hpp"
#include "vsmmu/vsmmu.hpp"

namespace weir::model::test {

class Checker {
 public:
  struct Place {
    Smmu* model;
    const SmmuInstance* instance;
  };
  struct Vm {
    const stage2::S2Domain* domain;
    std::vector<const vsmmu::VSmmu*> vsmmus;
    // What the VM's memory is meant to be: physical pages by IPA. Pages of the first range that are not there are not to be
    // mapped.
    std::map<std::uint64_t, PA> pages;
    IPA from;
    IPA to;
  };
  Checker(PhysicalMemory& memory, std::vector<Place> places) : memory_{memory}, places_{std::move(places)} {}

  // What is wrong, or nothing.
  [[nodiscard]] std::string check(std::span<const Vm> vms) {
    wrong_.clear();
    for (const Vm& vm : vms) check_tables(vm);
    for (const Place& place : places_) check_streams(place, vms);
    return wrong_;
  }
  std::uint64_t stes = 0;   // that translate, looked at
  std::uint64_t pages = 0;  // walked to

 private:
  void fail(const std::string& what) {
    if (wrong_.empty()) wrong_ = what;
  }
  void check_tables(const Vm& vm) {
    if (!vm.domain->table().check_invariants()) fail("a stage-2 table is corrupt");
    for (unsigned n = 0;; ++n) {
      const auto info = vm.domain->class_info(n);
      if (!info) break;
      for (std::uint64_t ipa = vm.from.value; ipa < vm.to.value; ipa += kPage4K) {
        const auto found = walk(info->root, info->input_bits, ipa);
        const auto meant = vm.pages.find(ipa);
        ++pages;
        if (meant == vm.pages.end()) {
          if (found) fail("class " + std::to_string(n) + ": a page that is gone is mapped");
        } else if (!found || *found != meant->second) {
          fail("class " + std::to_string(n) + ": a page is mapped elsewhere, or not");
        }
      }
    }
  }
  // Start level 1 with concatenated tables, or level 0 or 1 without, of 4 KiB.
  [[nodiscard]] std::optional<PA> walk(PA root, unsigned bits, std::uint64_t ipa) {
    unsigned level = bits > 43 ? 0 : bits > 34 ? 1 : 2;
    PA table = root;
    for (bool first = true; level <= 3; ++level, first = false) {
      const unsigned low = 12 + 9 * (3 - level);
      const std::uint64_t index = first ? ipa >> low : (ipa >> low) & 511;
      const auto descriptor = memory_.load<std::uint64_t>(table + index * 8);
      if (!descriptor || (*descriptor & 1) == 0) return std::nullopt;
      const std::uint64_t address = *descriptor & 0x0000'ffff'ffff'f000;
      if (level == 3 || (*descriptor & 2) == 0) {
        if ((*descriptor >> 6 & 3) == 0) return std::nullopt;  // no access at all
        const std::uint64_t size = std::uint64_t{1} << low;
        return PA{(address & ~(size - 1)) + (ipa & (size - 1))};
      }
      table = PA{address};
    }
    return std::nullopt;
  }

  void check_streams(const Place& place, std::span<const Vm> vms) {
    using smmu::Ste;
    struct Of {
      const Vm* vm;
      const vsmmu::VSmmu* vsmmu;
      const vsmmu::Stream* stream;
    };
    std::map<std::uint32_t, Of> known;
    for (const Vm& vm : vms)
      for (const vsmmu::VSmmu* v : vm.vsmmus)
        for (const vsmmu::Stream& s : v->streams())
          if (s.backing->port->index() == place.instance->index() &&
              !known.try_emplace(s.sid.value, Of{&vm, v, &s}).second)
            fail("two streams with one StreamID");
    std::map<std::uint16_t, std::pair<const vsmmu::VSmmu*, Ste>> vmids;
    for (std::uint32_t sid = 0; sid < 1U << place.model->parameters().sid_bits; ++sid) {
      const auto ste = installed(*place.model, sid);
      if (!ste) continue;
      const auto name = std::string{place.instance->name()} + ", StreamID " + std::to_string(sid) + ": ";
      const bool dead = !ste->get<Ste::V>() || smmu::is_abort(ste->get<Ste::Config>());
      const auto owner = known.find(sid);
      if (owner == known.end()) {
        if (!dead) fail(name + "an STE that nobody has");
        continue;
      }
      const vsmmu::Stream& s = *owner->second.stream;
      const bool believed_dead = !s.installed.get<Ste::V>() || smmu::is_abort(s.installed.get<Ste::Config>());
      if (dead && believed_dead) continue;
      if (*ste != s.installed) fail(name + "another STE than Weir believes");
      if (dead) continue;
      ++stes;
      bool known_root = false;
      for (unsigned n = 0;; ++n) {
        const auto info = owner->second.vm->domain->class_info(n);
        if (!info) break;
        known_root = known_root || PA{ste->get<Ste::S2TTB>()} == info->root;
      }
      if (!known_root) fail(name + "a stage-2 table that is not its VM's");
      const std::uint16_t vmid = VMID{ste->get<Ste::S2VMID>()}.value;
      if (vmid == 0) fail(name + "VMID 0");
      const auto [at, added] = vmids.try_emplace(vmid, owner->second.vsmmu, stage2_of(*ste));
      if (!added && at->second.first != owner->second.vsmmu) fail(name + "a VMID of another vSMMU");
      if (!added && at->second.second != stage2_of(*ste)) fail(name + "other stage-2 fields under the same VMID");
    }
    if (const_cast<SmmuInstance*>(place.instance)->vmids().in_use() < vmids.size()) fail("VMIDs in use that are free");
  }
  // The stage-2 fields alone.
  [[nodiscard]] static smmu::Ste stage2_of(smmu::Ste ste) {
    using smmu::Ste;
    // Words 2 and 3 are stage 2's (5.2), but for those that are of the stream.
    smmu::Ste only{};
    only.words[2] = ste.words[2];
    only.words[3] = ste.words[3];
    return only;
  }
  [[nodiscard]] std::optional<smmu::Ste> installed(Smmu& model, std::uint32_t sid) {
    using namespace smmu;
    STRTAB_BASE_CFG config;
    config.words[0] = model.read(Reg::STRTAB_BASE_CFG);
    const PA base{model.strtab_base()};
    PA at = base + std::uint64_t{sid} * sizeof(Ste);
    if (config.get<STRTAB_BASE_CFG::FMT>() == StrtabFmt::two_level) {
      const auto split = config.get<STRTAB_BASE_CFG::SPLIT>();
      const auto level1 = memory_.load<L1Std>(base + (sid >> split) * sizeof(L1Std));
      if (!level1 || level1->get<L1Std::Span>() == 0) return std::nullopt;
      at = PA{level1->get<L1Std::L2Ptr>()} + (sid & ((1U << split) - 1)) * sizeof(Ste);
    }
    return memory_.load<Ste>(at);
  }

  PhysicalMemory& memory_;
  std::vector<Place> places_;
  std::string wrong_;
};

}  // namespace weir::model::test
