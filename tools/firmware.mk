# Firmware to boot Weir with on QEMU's `virt`: build/firmware/tf-a.bin and tf-a-closed.bin, Trusted Firmware-A with
# U-Boot as BL33, and u-boot.bin, U-Boot alone. All are for -bios. Included by the Makefile; needs no network.
#
# TF-A is Debian's source, built for PLAT=qemu with its default flags: what lower exception levels may touch is what
# the defaults say. Given are the compiler, what the FIP holds, and the driver of the machine's GIC (by default GICv2's).
# tf-a-closed opens what Linux's arm64 boot protocol demands, also on CPUs newer than PLAT=qemu's defaults are made for
# (TCR2 and so on: without it no Linux boots on QEMU's `max`), and nothing of what PLAT=qemu adds to that.

firmware_out := build/firmware
firmware_source := build/sources/tf-a
firmware_flags := PLAT=qemu QEMU_USE_GIC_DRIVER=QEMU_GICV3
firmware_flags_tf-a :=
firmware_flags_tf-a-closed := \
    ENABLE_FEAT_CSV2_2=0 ENABLE_TRF_FOR_NS=0 ENABLE_FEAT_ECV=0 ENABLE_FEAT_MPAM=0 ENABLE_FEAT_RNG=0 \
    ENABLE_FEAT_TCR2=2 ENABLE_FEAT_S1PIE=2 ENABLE_FEAT_MTE2=2 ENABLE_FEAT_GCS=2 ENABLE_SME2_FOR_NS=2
firmware_tools := CC=clang-19 AS=clang-19 LD=ld.lld-19 AR=llvm-ar-19 OC=llvm-objcopy-19 OD=llvm-objdump-19 HOSTCC=clang-19

.PHONY: firmware
firmware: $(firmware_out)/tf-a.bin $(firmware_out)/tf-a-closed.bin $(firmware_out)/u-boot.bin

$(firmware_out)/u-boot.bin: build/sources/u-boot/u-boot.bin
	@mkdir -p $(@D)
	$(quiet)cp $< $@

# No time of day in the banner: the same source gives the same file. BL1 runs from the start of flash and looks for the FIP
# at 256 KiB.
define firmware_rules
$(firmware_out)/$(1)/release/.built: $(firmware_source)/.version tools/firmware.mk
	$$(call say,TF-A $$$$(cat $$<) ($(1)))
	@rm -rf $(firmware_out)/$(1); mkdir -p $$(@D)
	$$(quiet)+env -u MAKEFLAGS -u MAKEOVERRIDES $$(MAKE) -C $(firmware_source) -j$$(JOBS) BUILD_PLAT=$(abspath $(firmware_out)/$(1)/release) \
	    $(firmware_flags) $(firmware_flags_$(1)) $(firmware_tools) BUILD_STRING="$$$$(cat $$<)" BUILD_MESSAGE_TIMESTAMP='"unknown"' \
	    bl1 bl2 bl31 >$(firmware_out)/$(1).log 2>&1 || { tail -n 20 $(firmware_out)/$(1).log; exit 1; }
	@touch $$@
$(firmware_out)/$(1).bin: $(firmware_out)/$(1)/release/.built $(firmware_out)/u-boot.bin
	$$(quiet)fiptool create --tb-fw $$(<D)/bl2.bin --soc-fw $$(<D)/bl31.bin --nt-fw $(firmware_out)/u-boot.bin $(firmware_out)/$(1)/fip.bin
	$$(quiet)cp $$(<D)/bl1.bin $$@.new
	$$(quiet)dd if=$(firmware_out)/$(1)/fip.bin of=$$@.new bs=64k seek=4 status=none && mv $$@.new $$@
endef
$(foreach name,tf-a tf-a-closed,$(eval $(call firmware_rules,$(name))))
