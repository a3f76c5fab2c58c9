# Firmware to boot Weir with on QEMU's `virt`: build/firmware/tf-a.bin, Trusted Firmware-A with U-Boot as BL33, and
# build/firmware/u-boot.bin, U-Boot alone. Both are for -bios. Included by the Makefile; needs no network.
#
# TF-A is Debian's source, built for PLAT=qemu with its default flags: what lower exception levels may touch is what the
# defaults say. Given are the compiler, what the FIP holds, and the driver of the machine's GIC (by default that of GICv2).

firmware_out := build/firmware
firmware_source := build/sources/tf-a
firmware_flags := PLAT=qemu QEMU_USE_GIC_DRIVER=QEMU_GICV3
firmware_tools := CC=clang-19 AS=clang-19 LD=ld.lld-19 AR=llvm-ar-19 OC=llvm-objcopy-19 OD=llvm-objdump-19 HOSTCC=clang-19
firmware_images := $(firmware_out)/obj/qemu/release

.PHONY: firmware
firmware: $(firmware_out)/tf-a.bin $(firmware_out)/u-boot.bin

# Its version and no time of day in the banner: the same source gives the same file.
$(firmware_images)/.built: $(firmware_source)/.version tools/firmware.mk
	$(call say,TF-A $$(cat $<))
	@rm -rf $(firmware_out)/obj; mkdir -p $(firmware_images)
	$(quiet)+env -u MAKEFLAGS -u MAKEOVERRIDES $(MAKE) -C $(firmware_source) -j$(JOBS) BUILD_BASE=$(abspath $(firmware_out)/obj) \
	    $(firmware_flags) $(firmware_tools) BUILD_STRING="$$(cat $<)" BUILD_MESSAGE_TIMESTAMP='"unknown"' bl1 bl2 bl31 \
	    >$(firmware_out)/build.log 2>&1 || { tail -n 20 $(firmware_out)/build.log; exit 1; }
	@touch $@
$(firmware_out)/u-boot.bin: build/sources/u-boot/u-boot.bin
	@mkdir -p $(@D)
	$(quiet)cp $< $@
# BL1 runs from the start of flash and looks for the FIP at 256 KiB.
$(firmware_out)/tf-a.bin: $(firmware_images)/.built $(firmware_out)/u-boot.bin
	$(call say,$@)
	$(quiet)fiptool create --tb-fw $(firmware_images)/bl2.bin --soc-fw $(firmware_images)/bl31.bin \
	    --nt-fw $(firmware_out)/u-boot.bin $(firmware_out)/fip.bin
	$(quiet)cp $(firmware_images)/bl1.bin $@.new
	$(quiet)dd if=$(firmware_out)/fip.bin of=$@.new bs=64k seek=4 status=none && mv $@.new $@
