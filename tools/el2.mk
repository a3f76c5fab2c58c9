# How EL2 code is compiled, and the third-party libraries for it. Included by the Makefile; runs inside the toolchain.
#
# The guest's FP and SIMD state is live while EL2 runs, so nothing in the image may touch those registers: no FP in the
# architecture (+nofp+nosimd) and the soft-float variant of the procedure call standard. tools/check-no-fp proves it.
#
# The image: $(LINK_EL2) gives lld the flags; hyp/boot/weir.lds lays it out.

el2 := build/el2
src := build/sources
llvm := /usr/lib/llvm-19/bin

ARCH_EL2 := --target=aarch64-none-elf -march=armv8.2-a+nofp+nosimd -mabi=aapcs-soft -mno-outline-atomics -mtp=el2
# -fpie: all addresses are relative to the PC, so the code before the MMU is on runs wherever it was loaded. Own and third-party code, C and C++.
COMMON_EL2 := $(ARCH_EL2) -ffreestanding -fpie -fvisibility=hidden -ftls-model=local-exec -O2 -g -ffunction-sections -fdata-sections \
    -fno-common -fno-stack-protector -fno-asynchronous-unwind-tables -fno-omit-frame-pointer
# libstdc++ in freestanding mode over picolibc; tools/el2/include has the one header that libstdc++ expects of glibc.
INCLUDE_EL2 := -nostdinc -nostdinc++ \
    -isystem tools/el2/include -isystem /usr/aarch64-linux-gnu/include/c++/14 \
    -isystem /usr/aarch64-linux-gnu/include/c++/14/aarch64-linux-gnu
LIBC_INCLUDE_EL2 := -isystem $(el2)/picolibc/include -isystem /usr/lib/llvm-19/lib/clang/19/include
LIBS_INCLUDE_EL2 := -isystem $(el2)/include

CFLAGS_EL2 := $(COMMON_EL2) -std=c23 -nostdinc $(LIBC_INCLUDE_EL2) $(LIBS_INCLUDE_EL2)
CXXFLAGS_EL2 := $(COMMON_EL2) -std=c++23 -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-use-cxa-atexit \
    $(INCLUDE_EL2) $(LIBC_INCLUDE_EL2) $(LIBS_INCLUDE_EL2) -isystem $(el2)/boost -DBOOST_NO_EXCEPTIONS
# Weir's own files are optimised as one at link time: an exit goes through many of them. No class is derived from elsewhere, so
# a virtual function of which there is one (ports, outside of tests) is called as if it were none.
LTO_EL2 := -flto -fwhole-program-vtables -fvisibility=hidden
ASFLAGS_EL2 := $(ARCH_EL2) -g
# Erratum 843419 of Cortex-A53: what follows an ADRP at the end of a page may go wrong. The linker moves such a piece.
LDFLAGS_EL2 := --fix-cortex-a53-843419 -static -z text -z norelro -z noexecstack \
    -z max-page-size=4096 --gc-sections --build-id=none --fatal-warnings
LIBS_EL2 := $(addprefix $(el2)/lib/, libcapstone.a libmimalloc.a libfdt.a libc.a)

# ---- The libraries ----

el2-libs: $(LIBS_EL2) $(el2)/boost/boost
.PHONY: el2-libs

define say
@echo "  $(1)"
endef
define objects_to_archive
@mkdir -p $(@D); rm -f $@
@llvm-ar-19 rcs $@ $(filter %.o,$^)
endef
# Third-party code is not ours to warn about.
CC_LIB := clang-19 $(CFLAGS_EL2) -std=gnu17 -DNDEBUG -w

# Changes when the flags do, so that the libraries are made again then.
$(el2)/flags: FORCE
	@mkdir -p $(@D); echo '$(CFLAGS_EL2) $(picolibc_options)' >$@.new; cmp -s $@.new $@ && rm $@.new || mv $@.new $@
FORCE:
.PHONY: FORCE

# picolibc: strings, integer-only printf, and the C headers.
picolibc_options := -Dmultilib=false -Dpicocrt=false -Dpicocrt-lib=false -Dpicoexit=false -Dsemihost=false -Dtests=false \
    -Dposix-console=false -Dsingle-thread=true -Dthread-local-storage=false -Dnewlib-global-errno=true \
    -Dformat-default=integer -Dio-long-long=true -Dio-float-exact=false -Dassert-verbose=false -Dinitfini-array=false \
    -Dstack-protector-guard=global -Dspecsdir=none
empty :=
comma := ,
quoted = $(subst $(empty) $(empty),$(comma),$(foreach word,$(1),'$(word)'))
$(el2)/picolibc/.built: tools/el2/cross.ini.in $(el2)/flags $(src)/picolibc/.version
	$(call say,picolibc)
	@rm -rf $(el2)/picolibc; mkdir -p $(el2)/picolibc/build
	@sed "s|@C_ARGS@|$(call quoted,$(COMMON_EL2))|" tools/el2/cross.ini.in >$(el2)/picolibc/cross.ini
	@meson setup $(el2)/picolibc/build $(src)/picolibc --cross-file $(el2)/picolibc/cross.ini --buildtype plain \
	    --prefix $(CURDIR)/$(el2)/picolibc --libdir lib --includedir include $(picolibc_options) >$(el2)/picolibc/log 2>&1 && \
	    ninja -C $(el2)/picolibc/build >>$(el2)/picolibc/log 2>&1 && \
	    meson install -C $(el2)/picolibc/build --no-rebuild >>$(el2)/picolibc/log 2>&1 || \
	    { tail -n 20 $(el2)/picolibc/log; echo "picolibc does not build: the whole log is $(el2)/picolibc/log"; exit 1; }
	@touch $@
$(el2)/lib/libc.a: $(el2)/picolibc/.built
	@mkdir -p $(@D); cp $(el2)/picolibc/lib/libc.a $@

# capstone: AArch64 only, with detail.
capstone_objects := $(patsubst $(src)/%.c,$(el2)/lib/obj/%.o, $(addprefix $(src)/capstone/, \
    cs.c MCInst.c MCInstrDesc.c MCRegisterInfo.c Mapping.c SStream.c utils.c \
    arch/AArch64/AArch64BaseInfo.c arch/AArch64/AArch64Disassembler.c arch/AArch64/AArch64InstPrinter.c \
    arch/AArch64/AArch64Mapping.c arch/AArch64/AArch64Module.c)) $(el2)/lib/obj/softfloat.o
$(el2)/lib/obj/capstone/%.o: $(src)/capstone/%.c $(el2)/picolibc/.built
	$(call say,$<)
	@mkdir -p $(@D); $(CC_LIB) -I$(src)/capstone/include -DCAPSTONE_HAS_ARM64 -c $< -o $@
$(el2)/lib/obj/softfloat.o: tools/el2/softfloat.c $(el2)/picolibc/.built
	@mkdir -p $(@D); $(CC_LIB) -c $< -o $@
$(el2)/lib/libcapstone.a: $(capstone_objects) $(el2)/include/capstone/capstone.h
	$(objects_to_archive)
$(el2)/include/capstone/capstone.h: $(src)/capstone/.version
	@mkdir -p $(@D); cp $(src)/capstone/include/capstone/*.h $(@D); touch $@

# libfdt: as it is.
libfdt_objects := $(patsubst %,$(el2)/lib/obj/dtc/libfdt/%.o,fdt fdt_addresses fdt_check fdt_empty_tree fdt_ro fdt_rw fdt_strerror \
    fdt_sw fdt_wip)
$(el2)/lib/obj/dtc/libfdt/%.o: $(src)/dtc/libfdt/%.c $(el2)/picolibc/.built
	@mkdir -p $(@D); $(CC_LIB) -I$(src)/dtc/libfdt -c $< -o $@
$(el2)/lib/libfdt.a: $(libfdt_objects) $(el2)/include/libfdt.h
	$(objects_to_archive)
$(el2)/include/libfdt.h: $(src)/dtc/.version
	@mkdir -p $(@D); cp $(addprefix $(src)/dtc/libfdt/,fdt.h libfdt_env.h libfdt.h) $(@D); touch $@

# mimalloc, through tools/el2/mimalloc.c. Its segments are 32 MiB each, at least one for each pCPU: here they are 4 MiB,
# which is a constant in one header of a copy.
$(el2)/lib/obj/mimalloc/include/mimalloc.h: $(src)/mimalloc/.version
	@rm -rf $(el2)/lib/obj/mimalloc; mkdir -p $(el2)/lib/obj $(el2)/include; cp -r $(src)/mimalloc $(el2)/lib/obj/mimalloc
	@sed -i 's/\(MI_SEGMENT_SHIFT  *( \)9\( + MI_SEGMENT_SLICE_SHIFT)\).*/\16\2/' $(@D)/mimalloc-types.h
	@grep -q 'MI_SEGMENT_SHIFT  *( 6 +' $(@D)/mimalloc-types.h || { echo "mimalloc: the segment size is not where it was"; exit 1; }
	@sed '/Implement the C++ std::allocator/,$$s/^#ifdef __cplusplus/#if 0/' $@ >$(el2)/include/mimalloc.h; touch $@
$(el2)/lib/obj/mimalloc.o: tools/el2/mimalloc.c $(el2)/lib/obj/mimalloc/include/mimalloc.h $(el2)/picolibc/.built
	$(call say,mimalloc)
	@mkdir -p $(@D); $(CC_LIB) -DMI_STATIC_LIB -I$(el2)/lib/obj/mimalloc -I$(el2)/lib/obj/mimalloc/include \
	    -I$(el2)/lib/obj/mimalloc/src -c $< -o $@
$(el2)/lib/libmimalloc.a: $(el2)/lib/obj/mimalloc.o
	$(objects_to_archive)

# Boost's headers by themselves: -isystem /usr/include would bring glibc's.
$(el2)/boost/boost:
	@mkdir -p $(@D); ln -sfn /usr/include/boost $@
