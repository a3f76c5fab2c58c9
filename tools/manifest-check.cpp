// Checks a boot manifest on the host, with the code that Weir itself runs. Usage: see below; docs/manifest.md.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "hyp/manifest/initrd.hpp"
#include "hyp/manifest/manifest.hpp"
#include "hyp/mem/needs.hpp"
#include "hyp/platform/platform.hpp"

namespace {

using weir::FileContent;

constexpr const char* kUsage =
    "usage: manifest-check [--dtb PLATFORM.dtb] INITRD [MANIFEST.dtb]\n"
    "\n"
    "  INITRD        the cpio archive that Weir will be given, or a directory with the files for it\n"
    "  MANIFEST.dtb  the manifest to check; without it, the file manifest.dtb of INITRD\n"
    "  --dtb         also check against this machine's devicetree: memory, CPUs, SMMUs\n"
    "\n"
    "Prints one line for what is wrong and exits with 1 (2: cannot read a file), or sums the manifest up and exits "
    "with 0.\n";

// operator new aligns the content as a devicetree blob needs it.
std::optional<std::vector<std::byte>> read_file(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return std::nullopt;
  std::ifstream in{path, std::ios::binary};
  std::vector<char> chars{std::istreambuf_iterator<char>{in}, {}};
  if (in.bad() || !in) return std::nullopt;
  const auto* bytes = reinterpret_cast<const std::byte*>(chars.data());  // NOLINT: bytes are bytes
  return std::vector<std::byte>{bytes, bytes + chars.size()};
}

class Directory final : public weir::FileSource {
 public:
  explicit Directory(std::filesystem::path path) : path_{std::move(path)} {}

  [[nodiscard]] std::optional<FileContent> find(std::string_view name) const override {
    auto it = files_.find(name);
    if (it == files_.end()) {
      auto content = read_file(path_ / name);
      if (!content) return std::nullopt;
      it = files_.emplace(name, std::move(*content)).first;
    }
    return FileContent{it->second};
  }

 private:
  std::filesystem::path path_;
  mutable std::map<std::string, std::vector<std::byte>, std::less<>> files_;
};

[[noreturn]] void cannot_read(const std::string& path) {
  std::fprintf(stderr, "manifest-check: %s: cannot be read; expected a file\n", path.c_str());
  std::exit(2);
}

std::vector<std::byte> read_or_exit(const std::string& path) {
  auto content = read_file(path);
  if (!content) cannot_read(path);
  return std::move(*content);
}

struct Arguments {
  std::optional<std::string> dtb;
  std::string initrd;
  std::optional<std::string> manifest;
};

std::optional<Arguments> arguments(int argc, char** argv) {
  Arguments result;
  std::vector<std::string> rest;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--dtb" && i + 1 < argc)
      result.dtb = argv[++i];
    else if (word.starts_with("-"))
      return std::nullopt;
    else
      rest.emplace_back(word);
  }
  if (rest.empty() || rest.size() > 2) return std::nullopt;
  result.initrd = rest[0];
  if (rest.size() == 2) result.manifest = rest[1];
  return result;
}

void sum_up(const weir::Manifest& manifest) {
  for (const weir::VmConfig& vm : manifest.vms) {
    std::printf("vm %.*s: %u CPUs, %llu MiB, %zu vSMMUs, %zu devices\n", static_cast<int>(vm.name.size()),
                vm.name.data(), vm.vcpus, static_cast<unsigned long long>(vm.memory >> 20), vm.vsmmus.size(),
                vm.devices.size());
    for (const weir::VsmmuConfig& vsmmu : vm.vsmmus)
      std::printf("  vSMMU %.*s: %zu SMMUs, %s invalidation%s%s\n", static_cast<int>(vsmmu.name.size()),
                  vsmmu.name.data(), vsmmu.backing.size(),
                  vsmmu.invalidation == weir::Invalidation::precise ? "precise" : "strict",
                  vsmmu.no_global_pages ? ", no global pages" : "", vsmmu.late_events ? ", late events" : "");
    for (std::size_t to = 0; to < manifest.vms.size(); ++to)
      if (vm.may_share_with(to))
        std::printf("  may offer its memory to %.*s\n", static_cast<int>(manifest.vms[to].name.size()),
                    manifest.vms[to].name.data());
    for (const weir::DeviceConfig& device : vm.devices) {
      char text[weir::TopologyPath::kMaxText];
      const std::string_view path = device.pci.print(text);
      const std::string_view vsmmu = vm.vsmmus[device.vsmmu].name;
      std::printf("  00:%02x.0 %.*s: PCI %.*s behind %.*s\n", unsigned{device.slot},
                  static_cast<int>(device.name.size()), device.name.data(), static_cast<int>(path.size()), path.data(),
                  static_cast<int>(vsmmu.size()), vsmmu.data());
    }
  }
}

int fail(const char* line) {
  std::fprintf(stderr, "%s\n", line);
  return EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
  const auto args = arguments(argc, argv);
  if (!args) {
    std::fputs(kUsage, stderr);
    return 2;
  }

  const Directory directory{args->initrd};
  weir::Initrd initrd;
  std::vector<std::byte> archive;
  const bool is_directory = std::filesystem::is_directory(args->initrd);
  if (!is_directory) {
    archive = read_or_exit(args->initrd);
    auto opened = weir::Initrd::open(archive);
    if (!opened) return fail(opened.error().line().c_str());
    initrd = std::move(*opened);
  }
  const weir::FileSource& files = is_directory ? static_cast<const weir::FileSource&>(directory) : initrd;

  const auto manifest = std::make_unique<weir::Manifest>();
  const auto parsed =
      args->manifest ? weir::parse(read_or_exit(*args->manifest), files, *manifest) : weir::load(files, *manifest);
  if (!parsed) return fail(parsed.error().c_str());

  if (args->dtb) {
    const std::vector<std::byte> dtb = read_or_exit(*args->dtb);
    const auto platform = std::make_unique<weir::Platform>();
    // Where the boot loader will put the tree and the initrd is not known here.
    const auto discovered = weir::discover(dtb.data(), dtb.size(), weir::PA{0}, *platform);
    if (!discovered) return fail((*args->dtb + ": " + discovered.error().c_str()).c_str());
    std::vector<std::string_view> smmus;
    for (const weir::Smmu& smmu : platform->smmus) smmus.push_back(smmu.name);
    for (const weir::dt::Line& remark : platform->remarks.lines())
      std::fprintf(stderr, "%s: %s\n", args->dtb->c_str(), remark.c_str());
    const auto pcpus = static_cast<unsigned>(platform->cpus.size());
    const std::uint64_t units = platform->unreserved_units(weir::kMemoryUnit);
    const weir::PlatformFacts facts{.memory = units - std::min(units, weir::weir_bytes(pcpus)),
                                    .pcpus = pcpus,
                                    .smmus = smmus,
                                    .enumerated = false,
                                    .functions = {}};
    const auto checked = weir::check_against(facts, *manifest);
    if (!checked) return fail(checked.error().c_str());
  }

  sum_up(*manifest);
  std::printf(
      "OK. Left for Weir to check when it has enumerated PCI: that the devices exist, that each is behind an SMMU of\n"
      "its vSMMU, and that no interrupt line is shared by two VMs.\n");
  if (!args->dtb) std::printf("Not checked without --dtb: memory, CPUs and SMMUs.\n");
  return EXIT_SUCCESS;
}
