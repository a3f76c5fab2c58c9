# Images with a fault planted on purpose (vsmmu/fault_injection.hpp), which the boot tests must notice: build/mutants/NAME/Image.
# Everything but vsmmu/ is the objects of the real image. Included by the Makefile.

mutant_sources := $(call sources,vsmmu,cpp)
mutant_flags_drop_invalidation := -DWEIR_BREAK_DROP_INVALIDATION
mutant_flags_wrong_vmid := -DWEIR_BREAK_WRONG_VMID

define mutant_rules
build/mutants/$(1)/obj/%.cpp.o: %.cpp | el2-libs
	$$(call say,$$< ($(1)))
	@mkdir -p $$(@D)
	$$(quiet)clang++-19 $$(CXXFLAGS_EL2) $$(LTO_EL2) $$(call for_size,$$<) $$(warnings) $$(mutant_flags_$(1)) $$(depends) -I. -c $$< -o $$@
build/mutants/$(1)/weir.elf: $(mutant_sources:%=build/mutants/$(1)/obj/%.o) build/weir.elf
	$$(quiet)ld.lld-19 $$(LDFLAGS_EL2) -T hyp/boot/weir.lds -o $$@ $$(filter %.o,$$^) \
	    $$(filter-out $$(mutant_sources:%=$$(el2)/obj/%.o),$$(image_objects)) --start-group $$(LIBS_EL2) --end-group
build/mutants/$(1)/Image: build/mutants/$(1)/weir.elf
	$$(quiet)llvm-objcopy-19 -O binary $$< $$@
-include $(mutant_sources:%.cpp=build/mutants/$(1)/obj/%.cpp.d)
endef
$(foreach mutant,drop_invalidation wrong_vmid,$(eval $(call mutant_rules,$(mutant))))
