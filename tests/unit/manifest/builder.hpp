// Manifests and the files they name, for tests.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "guest-abi/types.hpp"
#include "hyp/manifest/files.hpp"
#include "hyp/manifest/manifest.hpp"
#include "tests/unit/platform/tree.hpp"

namespace weir::test {

class MemoryFiles final : public FileSource {
 public:
  void add(std::string_view name, Bytes content) { files_[std::string{name}] = std::move(content); }
  [[nodiscard]] std::optional<FileContent> find(std::string_view name) const override {
    const auto it = files_.find(name);
    if (it == files_.end()) return std::nullopt;
    return FileContent{it->second};
  }

 private:
  std::map<std::string, Bytes, std::less<>> files_;
};

// An arm64 Image of `file` bytes that says it occupies `memory` bytes.
inline Bytes kernel_image(std::size_t file, std::uint64_t memory) {
  Bytes image(file);
  for (std::size_t i = 0; i < 8; ++i) image[16 + i] = static_cast<std::byte>(memory >> (8 * i));
  const char magic[] = {'A', 'R', 'M', '\x64'};
  for (std::size_t i = 0; i < 4; ++i) image[56 + i] = static_cast<std::byte>(magic[i]);
  return image;
}

inline MemoryFiles default_files() {
  MemoryFiles files;
  files.add("Image", kernel_image(0x1000, 0x200000));
  files.add("initramfs.cpio", Bytes(0x1000));
  files.add("raw.bin", Bytes(0x100));
  return files;
}

inline constexpr std::uint32_t kVsmmuPhandle = 1;

inline Tree& add_vm(Tree& root, std::string_view name) {
  return root["vms"][name].set("kernel", "Image").set("cpus", cells(1)).set("memory", cells(0, 0x4000000));
}
inline Tree& add_device(Tree& vm, std::string_view name, std::string_view pci) {
  return vm["devices"][name].set("pci", pci).set("vsmmu", "vsmmu0");
}
inline Tree& add_vsmmu(Tree& vm, std::string_view smmu) { return vm["vsmmus"]["vsmmu0"].set("backing", smmu); }

// tests/boot/linux/manifest.dts
inline Tree default_manifest() {
  Tree root;
  root.set("compatible", "weir,manifest-v1").set("exit", "semihosting");
  Tree& vm = root["vms"]["linux"];
  vm.set("kernel", "Image").set("initrd", "initramfs.cpio").set("bootargs", "console=ttyAMA0");
  vm.set("cpus", cells(2)).set("memory", cells(0, 0x40000000));
  vm["vsmmus"]["vsmmu0"]
      .set("backing", strings({"smmuv3@c020000", "smmuv3@c040000"}))
      .set("phandle", cells({kVsmmuPhandle}));
  vm["devices"]["disk1"].set("pci", "08:01.0/00.0").set("vsmmu", cells({kVsmmuPhandle}));
  vm["devices"]["disk2"].set("pci", "10:02.0/00.0").set("vsmmu", cells({kVsmmuPhandle}));
  return root;
}

struct Parsed {
  std::unique_ptr<Manifest> manifest = std::make_unique<Manifest>();
  std::string error;  // empty: none
  std::optional<ManifestErrorCode> code;

  void take(const std::expected<void, ManifestError>& result) {
    if (result) return;
    error = result.error().line();
    code = result.error().code();
  }
};

inline Parsed parse_blob(const Bytes& blob, const FileSource& files = default_files()) {
  Parsed parsed;
  parsed.take(parse(blob, files, *parsed.manifest));
  return parsed;
}
inline Parsed parse_tree(const Tree& tree) { return parse_blob(tree.blob()); }

}  // namespace weir::test
