# Weir. 'make help' says what there is. On a fresh Debian 12 or 13 this needs make and apt: the first make puts
# a toolchain together (tools/toolchain), and every make after that runs itself again inside it (tools/enter).

SHELL := /bin/bash
MAKEFLAGS += --no-builtin-rules --no-builtin-variables
.DELETE_ON_ERROR:
JOBS ?= $(shell nproc)

goals := help image guests firmware test-kernels manifest-check vsmmu-doc docs verdicts host el2-libs run shell bench test unit mutants boot-test format format-check lint check-no-fp spin race race-mutants
.PHONY: $(goals) toolchain kernels clean distclean
.DEFAULT_GOAL := help

help:
	@echo "make image           the hypervisor: build/weir.elf, build/Image"
	@echo "make run             boot Linux in it on a QEMU machine with three SMMUs, and check what the guest did"
	@echo "                     (KERNEL=file: another kernel than Debian's 6.12, as an Image or a vmlinuz)"
	@echo "make shell           the same, with a shell in the guest"
	@echo "make test            everything that CI checks; make unit, make boot-test, make check-no-fp: parts of it"
	@echo "                     (T=name runs the unit tests or boot tests of that name only)"
	@echo "make test-kernels    make run with Debian's older and newer kernels, which make kernels fetches to build/kernels"
	@echo "make bench           what Weir's work costs, in instructions: build/bench/bench.json and plots (T=quick: one SMMU, in seconds)"
	@echo "make race            real threads over modelled SMMUs, under ThreadSanitizer (WEIR_RACE_SCALE=N: N times as long; WEIR_RACE_SEED)"
	@echo "make spin            check the models of the protocols between pCPUs and SMMUs (tests/spin), exhaustively"
	@echo "make mutants         plant faults in the vSMMU, one at a time: the tests must notice each (T=name: those of that name)"
	@echo "make guests          the payloads of tests/guests"
	@echo "make firmware        TF-A and U-Boot, to boot Weir with: build/firmware"
	@echo "make manifest-check  build/host/manifest-check, which checks a manifest"
	@echo "make docs            write guest-abi/vsmmu.md anew, from the definitions of formats and rules"
	@echo "make verdicts        write tests/unit/platform/verdicts.txt anew: what Debian's devicetrees are to Weir"
	@echo "make format          lay the sources out; make lint: clang-tidy"
	@echo "make toolchain       get the toolchain, third-party sources and a guest kernel, and nothing else"
	@echo "make clean           remove what was compiled; make distclean: the toolchain too"

toolchain:
	@tools/toolchain

kernels: toolchain
	@tools/kernels

clean:
	rm -rf build/weir.elf build/Image build/el2/obj build/host build/guests build/run build/mutation build/spin build/firmware
distclean:
	rm -rf build

ifndef WEIR_INSIDE
# Outside: the same goals, inside.
ifneq ($(filter-out help toolchain kernels clean distclean,$(MAKECMDGOALS)),)
inside := $(filter-out toolchain kernels clean distclean,$(MAKECMDGOALS))
# A copy of KERNEL, which the toolchain need not see.
given := $(if $(KERNEL),build/kernel/given/$(notdir $(KERNEL)))
$(firstword $(inside)): toolchain $(if $(filter test-kernels,$(inside)),kernels)
	$(if $(given),@mkdir -p $(dir $(given)) && cp -L -- '$(KERNEL)' $(given))
	@+exec env -u MAKEFLAGS -u MAKELEVEL tools/enter make -j$(JOBS) $(inside) $(foreach v,T V KEEP,$(if $($v),$v='$($v)')) \
	    $(given:%=KERNEL=%)
$(wordlist 2,$(words $(inside)),$(inside)): $(firstword $(inside)) ; @:
endif
else

include tools/el2.mk
print-%: ; @echo '$($*)'

# $(call sources,FOLDERS,SUFFIX): all below, sorted.
sources = $(sort $(shell find $(1) -name '*.$(2)' 2>/dev/null))
warnings := -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Wcast-align \
    -Wold-style-cast -Wimplicit-fallthrough -Wformat=2 -Wunused -Wnull-dereference -Wthread-safety -Wno-missing-designated-field-initializers -Werror
depends = -MMD -MP -MF $(@:.o=.d)
quiet := $(if $(V),,@)

# A file that changes when the flags in it do, and what was compiled with them is compiled again.
define flags_file
$(1): FORCE
	@mkdir -p $$(@D); echo '$(2)' >$$@.new; cmp -s $$@.new $$@ && rm $$@.new || mv $$@.new $$@
endef
$(eval $(call flags_file,$(el2)/cxxflags,$$(CXXFLAGS_EL2) $$(LTO_EL2) $$(warnings)))
$(eval $(call flags_file,build/host/flags,$$(HOST_CXXFLAGS) $$(warnings)))

# ---- The hypervisor ----

image_sources := $(call sources,guest-abi stage2 vsmmu hyp,cpp)
image_assembly := $(call sources,hyp,S)
# What runs on most exits of a guest is compiled for speed, the rest for size.
FAST := $(addprefix vsmmu/,vsmmu commands command_queue fanout irq event_queue events register_file stream_table) \
    $(addprefix stage2/,invalidate invalidation_array domain epoch table table_walk vm_memory) $(addprefix hyp/smmu/,command_queue instance) \
    $(addprefix hyp/cpu/,traps guest_address exception tlb el2_tlb) $(addprefix hyp/gic/,gic vgic vgic_hardware) \
    $(addprefix hyp/vm/,vcpu vm vsmmu_device guest_memory mmio_bus cpu_view memory_calls) $(addprefix hyp/machine/,smmu_mmio machine grace) hyp/arch/cache hyp/mem/page_allocator
for_size = $(if $(filter $(FAST),$(1:.cpp=)),,-Oz)
# What runs before the MMU is on, when an access that is not aligned faults.
EARLY := hyp/boot/early_patch.cpp hyp/cpu/errata.cpp $(wildcard hyp/patch/*.cpp)
for_early = $(if $(filter $(EARLY),$(1)),-mstrict-align)
image_objects := $(patsubst %,$(el2)/obj/%.o,$(image_sources) $(image_assembly))

image: build/Image
build/Image: build/weir.elf
	$(quiet)llvm-objcopy-19 -O binary $< $@
	@echo "  $@: $$(stat -c %s $@) bytes"
build/weir.elf: $(image_objects) hyp/boot/weir.lds tools/patch-sites $(LIBS_EL2)
	$(call say,link $@)
	$(quiet)ld.lld-19 $(LDFLAGS_EL2) --lto-O2 --icf=safe --lto-obj-path=$@.lto.o -T hyp/boot/weir.lds -Map=build/weir.map -o $@ \
	    $(image_objects) --start-group $(LIBS_EL2) --end-group
	$(quiet)tools/patch-sites $@
$(el2)/obj/%.cpp.o: %.cpp $(el2)/cxxflags | el2-libs
	$(call say,$<)
	@mkdir -p $(@D)
	$(quiet)clang++-19 $(CXXFLAGS_EL2) $(LTO_EL2) $(call for_size,$<) $(call for_early,$<) $(warnings) $(depends) -I. -c $< -o $@
# What runs before the MMU is on, or when nothing is left to rely on: aligned accesses only, nothing called but what is here.
$(el2)/obj/hyp/early/%.cpp.o: hyp/early/%.cpp $(el2)/cxxflags tools/check-early | el2-libs
	$(call say,$<)
	@mkdir -p $(@D)
	$(quiet)clang++-19 $(CXXFLAGS_EL2) -mstrict-align -fno-builtin -Oz $(warnings) $(depends) -I. -c $< -o $@
	$(quiet)tools/check-early $@
$(el2)/obj/%.S.o: %.S | el2-libs
	$(call say,$<)
	@mkdir -p $(@D)
	$(quiet)clang-19 $(ASFLAGS_EL2) $(depends) -I. -c $< -o $@

# ---- Payloads: tests/guests/NAME/*.S, *.cpp with NAME.lds, made into build/guests/NAME.elf and .bin; see tests/guests/guests.mk ----

guests: build/guests/initramfs.cpio
build/guests/initramfs.cpio: tests/guests/linux/init build/kernel/busybox tools/initramfs.py tools/qemu.py
	$(call say,$@)
	@mkdir -p $(@D)
	$(quiet)python3 tools/initramfs.py $@ init=tests/guests/linux/init bin/busybox=build/kernel/busybox
-include tests/guests/guests.mk
-include tests/boot/mutants.mk

# ---- For the host: unit tests under sanitizers, and tools ----

# The folders of hyp that hold no assembly, and so run on the host too.
HOST_HYP := hyp/manifest hyp/platform hyp/smmu hyp/pci hyp/uart hyp/rtc hyp/patch
# Portable files of the other folders.
HOST_FILES := hyp/boot/options.cpp hyp/early/devicetree.cpp hyp/mem/page_allocator.cpp hyp/console/mux.cpp hyp/console/plain_text.cpp hyp/vm/mmio_bus.cpp hyp/vm/vcpu_health.cpp \
    hyp/vm/guest_fdt.cpp hyp/vm/guest_seed.cpp hyp/vm/blake2s.cpp hyp/vm/grants.cpp hyp/vm/guest_memory.cpp hyp/gic/vgic.cpp hyp/gic/vgic_registers.cpp \
    hyp/cpu/mmio_decode.cpp hyp/cpu/mmio_execute.cpp hyp/cpu/features.cpp hyp/cpu/feature_table.cpp hyp/cpu/el3_controls.cpp hyp/cpu/stage1_walk.cpp hyp/cpu/exception.cpp \
    hyp/cpu/errata.cpp hyp/cpu/tlb.cpp
portable := guest-abi stage2 vsmmu $(HOST_HYP)
portable_sources := $(call sources,$(portable),cpp) $(wildcard $(HOST_FILES))
test_sources := $(filter-out tests/conformance/print.cpp,$(call sources,tests/unit tests/model tests/conformance,cpp))
HOST_CXXFLAGS := -std=c++23 -O1 -g -I. -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
HOST_LDFLAGS := -fsanitize=address,undefined -fuse-ld=lld
HOST_LIBS := -lgmock_main -lgmock -lgtest -lfdt -lcapstone -lpthread

host_objects := $(patsubst %,build/host/obj/%.o,$(portable_sources))
test_objects := $(patsubst %,build/host/obj/%.o,$(test_sources) $(call sources,tests/unit,c))
host: build/host/unit-tests
build/host/obj/%.cpp.o: %.cpp build/host/flags
	$(call say,$< (host))
	@mkdir -p $(@D)
	$(quiet)clang++-19 $(HOST_CXXFLAGS) $(warnings) $(depends) -c $< -o $@
# What guests include in C is tested as C.
build/host/obj/%.c.o: %.c build/host/flags
	$(call say,$< (host))
	@mkdir -p $(@D)
	$(quiet)clang-19 -std=c11 -ffreestanding -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Werror -g -I. $(depends) -c $< -o $@
# An archive, so that each program takes only what it uses.
build/host/portable.a: $(host_objects)
	@rm -f $@; llvm-ar-19 rcs $@ $^
build/host/unit-tests: $(test_objects) build/host/portable.a
	$(call say,link $@)
	@mkdir -p $(@D)
	$(quiet)clang++-19 $(HOST_LDFLAGS) $^ $(HOST_LIBS) -o $@
# The conformance suite, printing what the payload of that name prints (tests/conformance).
conformance_sources := $(call sources,tests/conformance tests/model,cpp) $(filter-out %_test.cpp,$(call sources,tests/unit/conformance,cpp)) \
    tests/unit/support/log.cpp
build/host/conformance: $(conformance_sources:%=build/host/obj/%.o) build/host/portable.a
	$(call say,link $@)
	$(quiet)clang++-19 $(HOST_LDFLAGS) $^ -lfdt -lcapstone -lpthread -o $@
# Host tools: tools/NAME.cpp over the portable folders.
manifest-check: build/host/manifest-check
# Statically linked, and so without sanitizers: it runs on every host, outside of the toolchain.
check_sources := tools/manifest-check.cpp $(call sources,hyp/manifest hyp/platform,cpp)
check_objects := $(patsubst %,build/host/static/%.o,$(check_sources))
build/host/static/%.cpp.o: %.cpp build/host/flags
	$(call say,$< (static))
	@mkdir -p $(@D)
	$(quiet)clang++-19 -std=c++23 -O2 -I. $(warnings) $(depends) -c $< -o $@
build/host/manifest-check: $(check_objects)
	$(call say,link $@)
	$(quiet)clang++-19 -static -fuse-ld=lld $^ -lfdt -o $@
# guest-abi/vsmmu.md is checked in; `make test` compares.
# tests/unit/platform/verdicts.txt is checked in; the unit tests compare.
build/host/platform-verdicts: build/host/obj/tools/platform-verdicts.cpp.o build/host/portable.a
	$(call say,link $@)
	$(quiet)clang++-19 $(HOST_LDFLAGS) $^ -lfdt -lcapstone -o $@
verdicts: build/host/platform-verdicts
	build/host/platform-verdicts build/kernel/dtbs >tests/unit/platform/verdicts.txt.new && \
	    mv tests/unit/platform/verdicts.txt.new tests/unit/platform/verdicts.txt
vsmmu-doc: build/host/vsmmu-doc
build/host/vsmmu-doc: build/host/obj/tools/vsmmu-doc.cpp.o build/host/portable.a
	$(call say,link $@)
	$(quiet)clang++-19 $(HOST_LDFLAGS) $^ -lfdt -lcapstone -o $@
docs: build/host/vsmmu-doc
	build/host/vsmmu-doc >guest-abi/vsmmu.md.new && mv guest-abi/vsmmu.md.new guest-abi/vsmmu.md

-include tests/mutants/mutants.mk
-include tests/race/race.mk
include tools/firmware.mk

# ---- Running and checking ----

run: image guests
	@python3 tools/run_linux.py $(KERNEL:%=--kernel '%')
shell: image guests
	@python3 tools/run_linux.py --shell $(KERNEL:%=--kernel '%')
test-kernels: image guests
	@python3 tests/boot/kernels.py
bench: image guests build/bench/count.so build/bench/read4k
	@python3 tests/bench/run.py $(T)
build/bench/count.so: tests/bench/count.c
	@mkdir -p $(@D)
	$(quiet)clang-19 -std=c23 -O2 -Wall -Wextra -Werror -fPIC -shared -fvisibility=hidden -o $@ $<
# The program of the Linux guest: no libc, and any Linux would run it.
build/bench/read4k: tests/bench/read4k.cpp
	@mkdir -p $(@D)
	$(quiet)clang++-19 --target=aarch64-linux-gnu -std=c++23 -O2 $(warnings) -ffreestanding -fno-exceptions -fno-rtti \
	    -fno-stack-protector -fno-pic -static -nostdlib -fuse-ld=lld -o $@ $<

unit: build/host/unit-tests
	@build/host/unit-tests $(if $(T),--gtest_filter='*$(T)*')
spin:
	@python3 tests/spin/run.py $(T)
check-no-fp: build/weir.elf
	@tools/check-no-fp $<
boot-test: image guests firmware
	@python3 tests/boot/run.py $(T)
# One after the other, all of them whatever fails, and a last line that counts.
test:
	@python3 tools/test.py

formatted = $(foreach suffix,cpp hpp,$(call sources,guest-abi stage2 vsmmu hyp tests tools fvp,$(suffix)))
format:
	$(quiet)clang-format-19 -i $(formatted)
format-check:
	$(quiet)$(if $(formatted),clang-format-19 --dry-run -Werror $(formatted))
lint:
	$(quiet)$(if $(portable_sources),printf '%s\n' $(portable_sources) | \
	    xargs -P $(JOBS) -n 1 sh -c 'clang-tidy-19 --quiet "$$0" -- -std=c++23 -I. -Wall -Wextra')
	$(quiet)$(if $(image_sources),printf '%s\n' $(filter-out $(portable_sources),$(image_sources)) | \
	    xargs -r -P $(JOBS) -n 1 sh -c 'clang-tidy-19 --quiet "$$0" -- $(subst ','\'',$(CXXFLAGS_EL2)) -I.')

-include $(image_objects:.o=.d) $(host_objects:.o=.d) $(test_objects:.o=.d) build/host/obj/tests/conformance/print.cpp.d \
    $(check_objects:.o=.d) build/host/obj/tools/vsmmu-doc.cpp.d build/host/obj/tools/platform-verdicts.cpp.d
endif
