// What the SMMUs behind one vSMMU may still believe of its guest's tables: every version of every entry, until an invalidation
// that covers it, sent after it was replaced, is known to be complete (Arm IHI 0070, 3.21, 4.3, 4.4). It may know of
// too many versions, never of too few: a device that reaches something that no version justifies has used what was gone.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <vector>

#include "guest-abi/smmu/ste.hpp"

namespace weir::model::test {

inline constexpr std::uint64_t kEver = std::numeric_limits<std::uint64_t>::max();
inline constexpr unsigned kPlaces = 6;      // virtual addresses in use
inline constexpr unsigned kTrees = 3;       // translation tables
inline constexpr unsigned kCdTables = 2;    // of each device
inline constexpr unsigned kSubstreams = 4;  // entries of a CD table
inline constexpr unsigned kMaxDevices = 6;

struct Mapping {
  std::uint64_t ipa = 0;  // 0: none
  bool writable = false;
  bool global = false;
};
// A leaf of a tree, as somebody may hold it.
struct LeafVersion {
  Mapping mapping;
  unsigned tree{};
  std::uint64_t until = kEver;
};
struct CdVersion {
  bool valid = false;
  unsigned tree{};
  std::uint16_t asid{};
  std::uint64_t until = kEver;
};
struct SteVersion {
  enum class What : std::uint8_t { invalid, abort, bypass, stage1 };
  What what = What::abort;
  unsigned table{};    // of CDs
  unsigned s1cdmax{};  // log2; 0: no substreams
  smmu::S1Dss dss{};
  std::uint64_t until = kEver;
};

// A command on its way.
struct Sent {
  enum class What : std::uint8_t { address, asid, all, cfgi };
  What what = What::all;
  std::uint64_t at{};
  int asid = -1;  // address: -1: any
  unsigned first = 0;
  unsigned last = 0;   // places
  int granule = -1;    // log2, of the entries concerned; -1: any
  int device = -1;     // cfgi; -1: all
  int substream = -1;  // cfgi: of one CD only; -1: STE and CDs
  bool ste = true;
};

class Beliefs {
 public:
  // `instances[d]`: which instance a device is on, or -1.
  struct Tree {
    int granule{};  // log2
    std::array<Mapping, kPlaces> now;
  };
  std::array<Tree, kTrees> trees;
  struct Device {
    bool attached = false;
    unsigned instance{};
    std::vector<SteVersion> stes{SteVersion{}};
    std::array<std::array<std::vector<CdVersion>, kSubstreams>, kCdTables> cds;
  };
  std::array<Device, kMaxDevices> devices;

  void map(unsigned tree, unsigned place, const Mapping& m, std::uint64_t now) {
    trees[tree].now[place] = m;
    for (auto& [key, space] : spaces_) {
      if (!space.links.contains(tree)) continue;
      close(space.places[place], tree, now);
      space.places[place].push_back({.mapping = m, .tree = tree});
    }
  }
  void set_ste(unsigned d, const SteVersion& v, std::uint64_t now) {
    devices[d].stes.back().until = now;
    devices[d].stes.push_back(v);
    relink(now);
  }
  void set_cd(unsigned d, unsigned table, unsigned ssid, const CdVersion& v, std::uint64_t now) {
    auto& history = devices[d].cds[table][ssid];
    history.back().until = now;
    history.push_back(v);
    relink(now);
  }
  // The device was not of this vSMMU: nothing of it is cached, and everything is as it stands.
  void attach(unsigned d, unsigned instance, std::uint64_t now) {
    devices[d].attached = true;
    devices[d].instance = instance;
    forget_configuration(devices[d], kEver - 1);
    relink(now);
  }
  void detach(unsigned d, std::uint64_t now) {
    devices[d].attached = false;
    relink(now);
  }
  void complete(const std::vector<Sent>& sent, std::uint64_t now) {
    for (const Sent& s : sent)
      if (s.what == Sent::What::cfgi) complete_cfgi(s);
    relink(now);
    for (const Sent& s : sent)
      if (s.what != Sent::What::cfgi) complete_tlbi(s, now);
  }

  // What a device with a CD of `asid` on `instance` may find at a place.
  [[nodiscard]] std::vector<LeafVersion> leaves(unsigned instance, std::uint16_t asid, unsigned place) const {
    std::vector<LeafVersion> found;
    for (const auto& [key, space] : spaces_) {
      if (key.first != instance) continue;
      for (const LeafVersion& v : space.places[place])
        if (key.second == asid || v.mapping.global) found.push_back(v);
    }
    return found;
  }

 private:
  struct Link {
    bool live = true;       // some CD that may be in use leads here
    std::uint64_t since{};  // not live: since when
  };
  // All that is tagged with one ASID on one instance.
  struct Space {
    std::map<unsigned, Link> links;  // by tree
    std::array<std::vector<LeafVersion>, kPlaces> places;
  };

  static void close(std::vector<LeafVersion>& versions, unsigned tree, std::uint64_t now) {
    for (LeafVersion& v : versions)
      if (v.tree == tree && v.until == kEver) v.until = now;
  }
  template <typename T>
  static void forget(std::vector<T>& history, std::uint64_t at) {
    std::erase_if(history, [&](const T& v) { return v.until <= at; });
  }
  static void forget_configuration(Device& d, std::uint64_t at) {
    forget(d.stes, at);
    for (auto& table : d.cds)
      for (auto& history : table) forget(history, at);
  }
  void complete_cfgi(const Sent& s) {
    for (unsigned n = 0; n < kMaxDevices; ++n) {
      if (s.device >= 0 && s.device != static_cast<int>(n)) continue;
      Device& d = devices[n];
      if (s.ste) {
        forget_configuration(d, s.at);
        continue;
      }
      for (auto& table : d.cds)
        for (unsigned ssid = 0; ssid < kSubstreams; ++ssid)
          if (s.substream < 0 || s.substream == static_cast<int>(ssid)) forget(table[ssid], s.at);
    }
  }
  void complete_tlbi(const Sent& s, std::uint64_t now) {
    for (auto& [key, space] : spaces_) {
      const bool matches = s.asid < 0 || s.asid == key.second;
      for (unsigned p = 0; p < kPlaces; ++p) {
        if (s.what == Sent::What::address && (p < s.first || p > s.last)) continue;
        std::erase_if(space.places[p], [&](const LeafVersion& v) {
          if (v.until > s.at || (s.granule >= 0 && s.granule != trees[v.tree].granule)) return false;
          switch (s.what) {
            case Sent::What::address: return matches || v.mapping.global;
            case Sent::What::asid: return matches && !v.mapping.global;
            default: return true;
          }
        });
      }
      if (s.what == Sent::What::address || !matches) continue;
      // Table descriptors that led walks into a tree that nothing points to any more are gone, too.
      std::erase_if(space.links, [&](const auto& link) {
        if (link.second.live || link.second.since > s.at) return false;
        for (auto& versions : space.places) {
          close(versions, link.first, now);
          std::erase_if(versions, [&](const LeafVersion& v) {
            return v.tree == link.first && v.until == now && (s.what == Sent::What::all || !v.mapping.global);
          });
        }
        return true;
      });
    }
  }
  // Which trees walks may enter under which tag, after a change of configurations.
  void relink(std::uint64_t now) {
    std::set<std::tuple<unsigned, std::uint16_t, unsigned>> live;
    for (const Device& d : devices) {
      if (!d.attached) continue;
      for (const SteVersion& ste : d.stes) {
        if (ste.what != SteVersion::What::stage1) continue;
        for (unsigned ssid = 0; ssid < (1u << ste.s1cdmax) && ssid < kSubstreams; ++ssid)
          for (const CdVersion& cd : d.cds[ste.table][ssid])
            if (cd.valid) live.insert({d.instance, cd.asid, cd.tree});
      }
    }
    for (auto& [key, space] : spaces_)
      for (auto& [tree, link] : space.links) {
        const bool is = live.contains({key.first, key.second, tree});
        if (link.live && !is) link.since = now;
        link.live = is;
      }
    for (const auto& [instance, asid, tree] : live) {
      Space& space = spaces_[{instance, asid}];
      if (space.links.contains(tree)) continue;
      space.links[tree] = Link{};
      for (unsigned p = 0; p < kPlaces; ++p) space.places[p].push_back({.mapping = trees[tree].now[p], .tree = tree});
    }
  }

  std::map<std::pair<unsigned, std::uint16_t>, Space> spaces_;  // by instance and ASID
};

}  // namespace weir::model::test
