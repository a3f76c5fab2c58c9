// Writes guest-abi/vsmmu.md: what a vSMMU offers a guest, from the very definitions that the hypervisor goes by. `make docs`.
//
// Offsets, fields and bits come from guest-abi; what a store changes and when, from vsmmu/register_rules.hpp; what is announced, from
// announce() asked about the best and the poorest instances; which commands and STEs are legal, from the functions that judge them,
// asked about every value. Only the sentences are written by hand: vsmmu-doc-text.hpp.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <format>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "guest-abi/hypercall.hpp"
#include "guest-abi/smmu/cd.hpp"
#include "guest-abi/smmu/command.hpp"
#include "guest-abi/smmu/event.hpp"
#include "guest-abi/smmu/pri.hpp"
#include "guest-abi/smmu/registers.hpp"
#include "guest-abi/smmu/ste.hpp"
#include "stage2/tag.hpp"
#include "tools/vsmmu-doc-text.hpp"
#include "vsmmu/announced.hpp"
#include "vsmmu/command_rules.hpp"
#include "vsmmu/register_file.hpp"
#include "vsmmu/register_rules.hpp"
#include "vsmmu/ste_merge.hpp"

namespace weir::doc {
namespace {

using namespace smmu;
using vsmmu::Announced;

// --- Text ------------------------------------------------------------------------------------------------------------

constexpr std::size_t kColumns = 138;

void line(std::string_view text = {}) { std::printf("%.*s\n", static_cast<int>(text.size()), text.data()); }

void paragraph(std::string_view text) {
  while (text.size() > kColumns) {
    const std::size_t at = text.rfind(' ', kColumns);
    line(text.substr(0, at));
    text.remove_prefix(at + 1);
  }
  line(text);
  line();
}

void heading(unsigned level, std::string_view text) {
  line(std::format("{} {}", std::string(level, '#'), text));
  line();
}

// A table that is as wide as its content.
class Table {
 public:
  explicit Table(std::vector<std::string> header) : rows_{std::move(header)} {}
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  [[nodiscard]] bool empty() const { return rows_.size() == 1; }
  void print() const {
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      std::string text = "|";
      for (const std::string& cell : rows_[i]) text += cell.empty() ? " |" : std::format(" {} |", cell);
      line(text);
      if (i != 0) continue;
      text = "|";
      for (std::size_t c = 0; c < rows_[0].size(); ++c) text += "---|";
      line(text);
    }
    line();
  }

 private:
  std::vector<std::vector<std::string>> rows_;
};

std::string bits(unsigned hi, unsigned lo) { return hi == lo ? std::format("{}", lo) : std::format("{}:{}", hi, lo); }

template <typename F>
std::string name_and_bits() {
  return std::format("{} [{}]", F::name, bits(F::hi, F::lo));
}

// "3", "3, 5", "3 to 7 and 12".
std::string list_values(const std::vector<std::uint64_t>& values) {
  std::string text;
  for (std::size_t i = 0; i < values.size();) {
    std::size_t end = i;
    while (end + 1 < values.size() && values[end + 1] == values[end] + 1) ++end;
    if (!text.empty()) text += ", ";
    text += end == i ? std::format("{}", values[i]) : std::format("{} to {}", values[i], values[end]);
    i = end + 1;
  }
  return text;
}

// --- What is announced -----------------------------------------------------------------------------------------------

// An instance that is nothing but what it can do.
class Instance final : public stage2::SmmuPort {
 public:
  explicit Instance(const stage2::Capabilities& c) : capabilities_{c} {}
  [[nodiscard]] unsigned index() const override { return 0; }
  [[nodiscard]] std::string_view name() const override { return "smmu"; }
  [[nodiscard]] const stage2::Capabilities& capabilities() const override { return capabilities_; }
  [[nodiscard]] stage2::VmidAllocator& vmids() override { std::abort(); }
  stage2::Ticket issue_and_sync(std::span<const Command>) override { std::abort(); }
  void issue(std::span<const Command>) override { std::abort(); }
  [[nodiscard]] bool completed(stage2::Ticket) override { std::abort(); }
  [[nodiscard]] bool atc_answers(StreamID) override { std::abort(); }
  [[nodiscard]] std::expected<void, stage2::Error> install_ste(StreamID, const Ste&) override { std::abort(); }

 private:
  stage2::Capabilities capabilities_;
};

stage2::Capabilities best() {
  stage2::Capabilities c;
  c.idr0.words[0] = c.idr1.words[0] = c.idr3.words[0] = c.idr5.words[0] = 0xffffffff;
  c.idr0.set<IDR0::STALL_MODEL>(StallModel::stall_and_terminate).set<IDR0::TTENDIAN>(TtEndian::mixed);
  c.idr0.set<IDR0::NS1ATS>(false).set<IDR0::TTF>(TtFormat::both).set<IDR0::ST_LEVEL>(StLevel::two_level);
  c.idr1.set<IDR1::SIDSIZE>(32).set<IDR1::SSIDSIZE>(20).set<IDR1::CMDQS>(19).set<IDR1::EVENTQS>(19).set<IDR1::PRIQS>(
      19);
  c.idr1.set<IDR1::ATTR_PERMS_OVR>(false).set<IDR1::ATTR_TYPES_OVR>(false);
  c.idr3.set<IDR3::BBML>(2);
  c.idr5.set<IDR5::VAX>(1).set<IDR5::OAS>(AddressSize::bits52);
  return c;
}

// The least with which a vSMMU can be made.
stage2::Capabilities poorest() {
  stage2::Capabilities c;
  c.idr0.set<IDR0::S1P>(true)
      .set<IDR0::S2P>(true)
      .set<IDR0::TTF>(TtFormat::aarch64)
      .set<IDR0::TTENDIAN>(TtEndian::little);
  c.idr0.set<IDR0::STALL_MODEL>(StallModel::terminate_only);
  c.idr5.set<IDR5::GRAN4K>(true);
  return c;
}

vsmmu::Config widest() { return {.ats = true, .pri = true}; }

vsmmu::Config narrowest() {
  return {.sid_bits = 0,
          .cmdq_log2 = 0,
          .evtq_log2 = 0,
          .oas_bits = 32,
          .two_level_stream_table = false,
          .range_invalidation = false,
          .asid16 = false,
          .coherent = false,
          .ssid_bits = 0,
          .stall = false,
          .ats = false,
          .pri = false,
          .msi = false,
          .sev = false,
          .priq_log2 = 0,
          .httu = Htt::none,
          .bbml = 0,
          .two_level_cd_table = false};
}

Announced announced(const stage2::Capabilities& instance, const vsmmu::Config& config) {
  Instance i{instance};
  stage2::SmmuPort* const ports[] = {&i};
  const auto a = vsmmu::announce(ports, config);
  if (!a) {
    std::fprintf(stderr, "vsmmu-doc: not announced: %.*s\n", static_cast<int>(a.error().feature.size()),
                 a.error().feature.data());
    std::exit(EXIT_FAILURE);
  }
  return *a;
}

// --- Fields of a format, without their types -------------------------------------------------------------------------

struct FieldRow {
  std::string_view name;
  unsigned hi{};
  unsigned lo{};
  std::uint64_t mask{};
  bool guest{};
};

template <typename R>
std::vector<FieldRow> fields_of() {
  std::vector<FieldRow> rows;
  R::Layout::for_each(
      [&]<typename F>(F) { rows.push_back({F::name, F::hi, F::lo, F::mask, F::guest == Guest::may_set}); });
  std::ranges::sort(rows, std::less{}, &FieldRow::lo);
  return rows;
}

// The fields of a register; none for those that are always 0.
std::vector<FieldRow> fields_of(Reg reg) {
  using enum Reg;
  switch (reg) {
    case IDR0: return fields_of<smmu::IDR0>();
    case IDR1: return fields_of<smmu::IDR1>();
    case IDR3: return fields_of<smmu::IDR3>();
    case IDR5: return fields_of<smmu::IDR5>();
    case IIDR: return fields_of<smmu::IIDR>();
    case AIDR: return fields_of<smmu::AIDR>();
    case CR0:
    case CR0ACK: return fields_of<smmu::CR0>();
    case CR1: return fields_of<smmu::CR1>();
    case CR2: return fields_of<smmu::CR2>();
    case GBPA: return fields_of<smmu::GBPA>();
    case IRQ_CTRL:
    case IRQ_CTRLACK: return fields_of<smmu::IRQ_CTRL>();
    case GERROR:
    case GERRORN: return fields_of<smmu::GERROR>();
    case GERROR_IRQ_CFG0:
    case EVENTQ_IRQ_CFG0:
    case PRIQ_IRQ_CFG0: return fields_of<smmu::IRQ_CFG0>();
    case GERROR_IRQ_CFG1:
    case EVENTQ_IRQ_CFG1:
    case PRIQ_IRQ_CFG1: return fields_of<smmu::IRQ_CFG1>();
    case GERROR_IRQ_CFG2:
    case EVENTQ_IRQ_CFG2: return fields_of<smmu::IRQ_CFG2>();
    case PRIQ_IRQ_CFG2: return fields_of<smmu::PRIQ_IRQ_CFG2>();
    case STRTAB_BASE: return fields_of<smmu::STRTAB_BASE>();
    case STRTAB_BASE_CFG: return fields_of<smmu::STRTAB_BASE_CFG>();
    case CMDQ_BASE: return fields_of<smmu::CMDQ_BASE>();
    case CMDQ_PROD: return fields_of<smmu::CMDQ_PROD>();
    case CMDQ_CONS: return fields_of<smmu::CMDQ_CONS>();
    case EVENTQ_BASE:
    case PRIQ_BASE: return fields_of<smmu::EVENTQ_BASE>();
    case EVENTQ_PROD:
    case PRIQ_PROD: return fields_of<smmu::EVENTQ_PROD>();
    case EVENTQ_CONS:
    case PRIQ_CONS: return fields_of<smmu::EVENTQ_CONS>();
    default: return {};
  }
}

// --- Registers -------------------------------------------------------------------------------------------------------

std::string_view describe(vsmmu::Access access) {
  switch (access) {
    case vsmmu::Access::constant: return "RO";
    case vsmmu::Access::status: return "RO, changes";
    case vsmmu::Access::stores: return "RW";
    case vsmmu::Access::absent: return "RAZ/WI";
  }
  return {};
}

// A row per field that can be other than 0.
template <typename R>
void id_rows(Table& table, std::string_view name, R Announced::* reg) {
  const Announced most = announced(best(), widest());
  const Announced least = announced(poorest(), narrowest());
  const Announced poor_instances = announced(poorest(), widest());
  const Announced narrow = announced(best(), narrowest());
  R::Layout::for_each([&]<typename F>(F) {
    const auto value = [&](const Announced& a) { return ((a.*reg).words[0] & F::mask) >> F::shift; };
    const std::uint64_t high = value(most);
    const std::uint64_t low = value(least);
    const std::string field = std::format("{}.{} [{}]", name, F::name, bits(F::hi, F::lo));
    if (high == low && high == value(narrow) && high == value(poor_instances)) {
      if (high != 0) table.row({field, std::format("{}", high), std::format("{}", high), "fixed"});
      return;
    }
    std::string on = value(poor_instances) != high ? "instances" : "";
    if (value(narrow) != high) on += on.empty() ? "manifest" : ", manifest";
    table.row({field, std::format("{}", low), std::format("{}", high), on});
  });
}

void registers() {
  heading(2, "Registers");
  paragraph(kRegistersText);

  std::array<std::uint32_t, 1024> page0{};
  std::array<std::uint32_t, 1024> page1{};
  const Announced most = announced(best(), widest());
  const vsmmu::RegisterFile reset{vsmmu::RegisterPages{page0, page1}, most};

  Table overview{{"Offset", "Register", "Bits", "Access", "Reset"}};
  for (const RegInfo& info : kRegs) {
    const auto access = vsmmu::access_of(info.reg);
    const auto offset = static_cast<std::uint32_t>(info.reg);
    const std::uint64_t value = reset.read(offset, info.bits / 8);
    const bool id = info.reg == Reg::IDR0 || info.reg == Reg::IDR1 || info.reg == Reg::IDR3 || info.reg == Reg::IDR5;
    overview.row({std::format("{:#07x}", offset), std::string{info.name}, std::format("{}", info.bits),
                  std::string{describe(access)}, id ? "see below" : std::format("{:#x}", value)});
  }
  overview.print();

  heading(3, "Identification: what is announced");
  paragraph(kIdText);
  Table ids{{"Field", "Least", "Most", "Depends on"}};
  id_rows(ids, "IDR0", &Announced::idr0);
  id_rows(ids, "IDR1", &Announced::idr1);
  id_rows(ids, "IDR3", &Announced::idr3);
  id_rows(ids, "IDR5", &Announced::idr5);
  id_rows(ids, "IIDR", &Announced::iidr);
  id_rows(ids, "AIDR", &Announced::aidr);
  ids.print();

  heading(3, "One by one");
  std::vector<std::string_view> said;
  for (const RegInfo& info : kRegs) {
    const auto access = vsmmu::access_of(info.reg);
    const std::string_view text = text_of(info.reg);
    // Registers without fields of their own to tell about share a sentence.
    if (access == vsmmu::Access::absent || access == vsmmu::Access::constant || fields_of(info.reg).empty()) {
      if (std::ranges::contains(said, text)) continue;
      said.push_back(text);
      std::string names;
      for (const RegInfo& other : kRegs)
        if (text_of(other.reg) == text) names += std::format("{}{}", names.empty() ? "" : ", ", other.name);
      paragraph(std::format("**{}**: {}", names, text));
      continue;
    }
    paragraph(std::format("**{}** ({:#x}, {}, {} bits): {}", info.name, static_cast<std::uint32_t>(info.reg),
                          describe(access), info.bits, text));
    Table table{access == vsmmu::Access::stores ? std::vector<std::string>{"Field", "A store counts", "Needs"}
                                                : std::vector<std::string>{"Field"}};
    for (const FieldRow& f : fields_of(info.reg)) {
      const std::string field = std::format("{} [{}]", f.name, bits(f.hi, f.lo));
      if (access == vsmmu::Access::status) {
        if (f.guest) table.row({field});
        continue;
      }
      const auto rule = std::ranges::find_if(
          vsmmu::kFieldRules, [&](const vsmmu::FieldRule& r) { return r.reg == info.reg && r.field == f.name; });
      if (rule == vsmmu::kFieldRules.end()) {
        if (f.guest) table.row({field, info.reg == Reg::CMDQ_CONS ? "never: the SMMU's" : "never: RES0", ""});
        continue;
      }
      std::string when{vsmmu::describe(rule->guard)};
      if (rule->extent == vsmmu::Extent::address) when += "; bits below IDR5.OAS";
      if (rule->extent == vsmmu::Extent::index) when += "; bits of the index and its wrap flag";
      table.row({field, when, std::string{vsmmu::describe(rule->needs)}});
    }
    table.print();
  }
}

// --- Commands --------------------------------------------------------------------------------------------------------

struct Feature {
  std::string_view name;
  void (*remove)(Announced&);
};

constexpr auto kFeatures = std::to_array<Feature>({
    {"IDR0.ATS == 1", [](Announced& a) { a.idr0.set<IDR0::ATS>(false); }},
    {"IDR0.PRI == 1", [](Announced& a) { a.idr0.set<IDR0::PRI>(false); }},
    {"IDR0.STALL_MODEL == 0", [](Announced& a) { a.idr0.set<IDR0::STALL_MODEL>(StallModel::terminate_only); }},
    {"IDR0.MSI == 1", [](Announced& a) { a.idr0.set<IDR0::MSI>(false); }},
    {"IDR0.SEV == 1", [](Announced& a) { a.idr0.set<IDR0::SEV>(false); }},
    {"IDR1.SSIDSIZE > 0", [](Announced& a) { a.idr1.set<IDR1::SSIDSIZE>(0); }},
    {"IDR3.RIL == 1", [](Announced& a) { a.idr3.set<IDR3::RIL>(false); }},
    {"IDR5.DS == 1", [](Announced& a) { a.idr5.set<IDR5::DS>(false); }},
});

// Features without which `c` is not legal.
std::string needs(const Command& c) {
  std::string text;
  for (const Feature& f : kFeatures) {
    Announced a = announced(best(), widest());
    f.remove(a);
    if (!vsmmu::command_legal(c, a)) text += std::format("{}{}", text.empty() ? "" : ", ", f.name);
  }
  return text;
}

// Values of field F of `base` that are not legal whatever is announced; all are tried.
template <typename F, typename T>
std::vector<std::uint64_t> illegal_values(const T& base) {
  std::vector<std::uint64_t> values;
  const Announced most = announced(best(), widest());
  if constexpr (F::max < 256 && F::kind == FieldKind::value) {
    for (std::uint64_t v = 0; v <= F::max; ++v) {
      T c = base;
      c.words[F::word] = (c.words[F::word] & ~F::mask) | (v << F::shift);
      if (!vsmmu::command_legal(c, most)) values.push_back(v);
    }
  }
  return values;
}

template <typename T>
void command(const T& plain) {
  const bool offered = guest_mask(T::kOpcode).has_value();
  const std::string opcode = std::format("{:#04x}", static_cast<unsigned>(T::kOpcode));
  if (!offered) return;
  const std::string needed = needs(plain);
  heading(3, std::format("{} ({})", T::name, opcode));
  paragraph(text_of(T::kOpcode));
  if (!needed.empty()) paragraph(std::format("Needs {}.", needed));
  Table table{{"Field", "Values"}};
  T::Layout::for_each([&]<typename F>(F) {
    if (F::name == std::string_view{"Opcode"}) return;
    const std::string field = name_and_bits<F>();
    if (F::guest != Guest::may_set) return table.row({field, "0"});
    constexpr bool range = requires { typename T::TG; } &&
                           std::ranges::contains(std::array<std::string_view, 4>{"NUM", "SCALE", "TTL", "TG"}, F::name);
    if (range) return table.row({field, "see Ranges"});
    const auto illegal = illegal_values<F>(plain);
    table.row({field, illegal.empty() ? "any" : std::format("not {}", list_values(illegal))});
  });
  if (!table.empty()) table.print();
}

void range_forms() {
  heading(3, "Ranges");
  paragraph(kRangeText);
  Table table{{"TG", "NUM", "SCALE", "TTL", "Legal with RIL", "RIL and DS", "without RIL"}};
  const auto form = [&](std::string_view tg, TlbiRange r, std::string_view num, std::string_view scale,
                        std::string_view ttl) {
    const auto legal = [&](bool ril, bool ds) {
      Announced a = announced(best(), widest());
      a.idr3.set<IDR3::RIL>(ril);
      a.idr5.set<IDR5::DS>(ds);
      return std::string{vsmmu::command_legal(tlbi_nh_va(VMID{}, ASID{}, IOVA{}, false, r), a) ? "yes" : "CERROR_ILL"};
    };
    table.row({std::string{tg}, std::string{num}, std::string{scale}, std::string{ttl}, legal(true, false),
               legal(true, true), legal(false, false)});
  };
  using enum TlbiGranule;
  form("0", {}, "0", "0", "0");
  form("0", {.num = 1}, "> 0", "0", "0");
  form("0", {.scale = 1}, "0", "> 0", "0");
  form("0", {.ttl = 3}, "0", "0", "> 0");
  form("1 to 3", {.tg = size4k, .num = 1}, "> 0", "below 32", "any");
  form("1 to 3", {.tg = size4k, .scale = 1}, "0", "1 to 31", "any");
  form("1 to 3", {.tg = size4k, .num = 1, .scale = 32}, "any", "from 32 on", "any");
  form("1, 3", {.tg = size4k, .ttl = 3}, "0", "0", "> 0");
  form("2", {.tg = size16k, .ttl = 3}, "0", "0", "2, 3");
  form("2", {.tg = size16k, .ttl = 1}, "0", "0", "1");
  form("1 to 3", {.tg = size4k}, "0", "0", "0");
  table.print();
}

void commands() {
  heading(2, "Commands");
  paragraph(kCommandsText);
  AllCommands::for_each([]<typename T>(const T& plain) { command(plain); });
  range_forms();
  heading(3, "CERROR_ILL whatever is announced");
  Table table{{"Opcode", "Command", "Because"}};
  std::vector<unsigned> known;
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    const auto op = static_cast<Opcode>(opcode);
    if (guest_mask(op) || name_of(op).empty()) continue;
    table.row({std::format("{:#04x}", opcode), std::string{name_of(op)}, std::string{text_of(op)}});
  }
  table.print();
  paragraph("And every opcode that is not in this text.");
}

// --- Tables in memory ------------------------------------------------------------------------------------------------

template <typename R>
void guest_fields(std::string_view what) {
  Table table{{"Field", "Bits"}};
  for (const FieldRow& f : fields_of<R>())
    if (f.guest) table.row({std::string{f.name}, bits(f.hi, f.lo)});
  paragraph(what);
  table.print();
}

// Illegal values of an STE's field in an STE that is otherwise valid, on a vSMMU that offers all, and on one that offers little.
void stream_table() {
  heading(2, "Stream table entries");
  paragraph(kSteText);
  const auto limits = [](const stage2::Capabilities& c, const vsmmu::Config& config, vsmmu::AtsGrant ats) {
    return vsmmu::MergeLimits::of(announced(c, config), c, {.ats = ats, .pri = ats != vsmmu::AtsGrant::none});
  };
  const auto rich = limits(best(), widest(), vsmmu::AtsGrant::split_stage);
  const auto poor = limits(poorest(), narrowest(), vsmmu::AtsGrant::none);
  Ste base;
  base.set<Ste::V>(true).set<Ste::Config>(SteConfig::s1);
  Table table{{"Field", "Illegal where all is offered", "Illegal where nothing is that could be left out"}};
  Ste::Layout::for_each([&]<typename F>(F) {
    if (F::guest != Guest::may_set) return;
    const auto illegal = [&](const vsmmu::MergeLimits& l) -> std::string {
      if constexpr (F::kind == FieldKind::address) {
        Ste ste = base;
        unsigned bit = F::lo;
        for (; bit <= F::hi; ++bit) {
          ste.words[F::word] = (base.words[F::word] & ~F::mask) | (std::uint64_t{1} << bit % 64);
          if (vsmmu::ste_illegal(ste, l)) break;
        }
        return bit > F::hi ? "none" : std::format("from bit {} on (IDR5.OAS)", bit);
      } else {
        std::vector<std::uint64_t> values;
        for (std::uint64_t v = 0; v <= F::max; ++v) {
          Ste ste = base;
          if (F::name == std::string_view{"S1Fmt"} && l.ssid_bits != 0) ste.set<Ste::S1CDMax>(1);
          ste.words[F::word] = (ste.words[F::word] & ~F::mask) | (v << F::shift);
          if (vsmmu::ste_illegal(ste, l)) values.push_back(v);
        }
        return values.empty() ? "none" : list_values(values);
      }
    };
    table.row({name_and_bits<F>(), illegal(rich), illegal(poor)});
  });
  table.print();
  paragraph(
      "Fields that a Config does not use are not looked at: with abort (0b0xx) and bypass (0b100), all but V and "
      "Config.");
  guest_fields<L1Std>(
      "A level-1 descriptor has 8 bytes. Span 0 and above 11, or beyond the split, is invalid: C_BAD_STREAMID. L2Ptr "
      "is aligned to "
      "the size of the table.");

  heading(2, "Context descriptors");
  paragraph(kCdText);
  std::string names;
  for (const FieldRow& f : fields_of<Cd>())
    if (f.guest) names += std::format("{}{} [{}]", names.empty() ? "" : ", ", f.name, bits(f.hi, f.lo));
  paragraph(names + ".");
  guest_fields<L1Cd>("A level-1 descriptor of a two-level table (IDR0.CD2L) has 8 bytes.");
}

// --- Queues ----------------------------------------------------------------------------------------------------------

void events() {
  heading(2, "Events");
  paragraph(kEventsText);
  std::string_view last;
  AllEvents::for_each([&]<typename T>(const T&) {
    heading(3, std::format("{} ({:#04x})", T::name, static_cast<unsigned>(T::kId)));
    const std::string_view text = text_of(T::kId);
    paragraph(text == last ? "The same." : text);
    last = text;
    std::string as_recorded;
    std::string ours;
    T::Layout::for_each([&]<typename F>(F) {
      const std::string_view name = F::name;
      if (name == "Id") return;
      std::string& list = F::guest == Guest::may_set ? as_recorded : ours;
      list += std::format("{}{}", list.empty() ? "" : ", ", name_and_bits<F>());
    });
    if (T::kId == EventId::F_CFG_CONFLICT || T::kId == EventId::F_VMS_FETCH) return;
    if (!as_recorded.empty()) line(std::format("- as recorded: {}", as_recorded));
    line(std::format("- Weir's, or 0: {}", ours));
    line();
  });
  heading(2, "Page requests");
  paragraph(kPriText);
  Table table{{"Field", "Bits", "Is"}};
  for (const FieldRow& f : fields_of<PriEntry>())
    table.row({std::string{f.name}, bits(f.hi, f.lo), f.guest ? "as the device sent it" : "Weir's"});
  table.print();
}

void hypercalls() {
  heading(2, "Hypercalls");
  paragraph(kHypercallsText);
  Table table{{"W0", "Returns"}};
  std::string uid;
  for (const std::uint32_t word : hypercall::kUid) uid += std::format("{}{:#010x}", uid.empty() ? "" : ", ", word);
  table.row({std::format("{:#010x}", hypercall::kCallUid), std::format("W0 to W3: who we are, {}", uid)});
  table.row({std::format("{:#010x}", hypercall::kRevision),
             std::format("W0: {}, W1: {}: the revision", hypercall::kMajor, hypercall::kMinor)});
  table.print();
}

void document() {
  line("<!-- Written by tools/vsmmu-doc.cpp from the definitions: do not edit. `make docs` writes it anew. -->");
  heading(1, "The virtual SMMUv3");
  paragraph(kIntroduction);
  registers();
  commands();
  stream_table();
  events();
  hypercalls();
}

}  // namespace
}  // namespace weir::doc

int main() {
  weir::doc::document();
  return EXIT_SUCCESS;
}
