# Bare-metal payloads: build/guests/NAME.bin from tests/guests/NAME/*.{cpp,S} and the framework in tests/guests/bare.
# Included by the Makefile; runs inside the toolchain. Compiled code keeps to the general registers, so that FP and SIMD
# state is what a payload's assembly makes of it.

guest_names := $(filter-out bare linux,$(notdir $(patsubst %/,%,$(wildcard tests/guests/*/))))
guest_out := build/guests
guest_payloads := $(guest_names:%=$(guest_out)/%.bin)

ARCH_GUEST := --target=aarch64-none-elf -march=armv8-a -mgeneral-regs-only -mstrict-align -mno-outline-atomics
CXXFLAGS_GUEST := $(ARCH_GUEST) -std=c++23 -ffreestanding -fpie -fvisibility=hidden -O2 -g -ffunction-sections -fdata-sections \
    -fno-common -fno-stack-protector -fno-asynchronous-unwind-tables -fno-exceptions -fno-rtti -fno-threadsafe-statics \
    -fno-use-cxa-atexit $(INCLUDE_EL2) $(LIBC_INCLUDE_EL2) -I. $(warnings)
ASFLAGS_GUEST := --target=aarch64-none-elf -march=armv9-a+sme -g
LDFLAGS_GUEST := -pie --no-dynamic-linker -Bsymbolic -z text -z norelro -z noexecstack -z max-page-size=4096 \
    -z separate-code --gc-sections --build-id=none -T tests/guests/bare/guest.lds

# What is shared with tests on the host.
guest_sources_conformance := $(filter-out tests/conformance/print.cpp,$(call sources,tests/conformance,cpp))

guest_objects = $(patsubst %,$(guest_out)/obj/%.o,$(wildcard tests/guests/bare/*.cpp tests/guests/bare/*.S \
    tests/guests/$(1)/*.cpp tests/guests/$(1)/*.S) $(guest_sources_$(1)))

guests: $(guest_payloads)
.PHONY: guests

$(guest_out)/obj/%.cpp.o: %.cpp tests/guests/guests.mk | $(el2)/picolibc/.built
	$(call say,$<)
	@mkdir -p $(@D)
	$(quiet)clang++-19 $(CXXFLAGS_GUEST) $(depends) -c $< -o $@
$(guest_out)/obj/%.S.o: %.S tests/guests/guests.mk
	$(call say,$<)
	@mkdir -p $(@D)
	$(quiet)clang-19 $(ASFLAGS_GUEST) $(depends) -c $< -o $@

define guest_rules
$(guest_out)/$(1).elf: $$(call guest_objects,$(1)) tests/guests/bare/guest.lds
	$$(quiet)ld.lld-19 $$(LDFLAGS_GUEST) $$(filter %.o,$$^) -o $$@
$(guest_out)/$(1).bin: $(guest_out)/$(1).elf
	$$(quiet)llvm-objcopy-19 -O binary $$< $$@
endef
$(foreach name,$(guest_names),$(eval $(call guest_rules,$(name))))
-include $(call sources,$(guest_out)/obj,d)
