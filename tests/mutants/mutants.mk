# What tools/mutants.py needs compiled: the tests that watch over commands, merge and events, and the code under them, without
# sanitizers: a mutant is compiled and linked in seconds. Included by the Makefile.

mutation := build/mutation
mutation_tests := $(foreach folder,tests/conformance tests/model tests/unit/fakes tests/unit/gic tests/unit/model tests/unit/smmu tests/unit/stage2 tests/unit/support \
    tests/unit/vm tests/unit/vsmmu tests/unit/pci tests/unit/cpu tests/unit/patch,\
    $(filter $(folder)/%,$(test_sources)))
MUTATION_CXXFLAGS := -std=c++23 -O1 -I.
MUTATION_LDFLAGS := -fuse-ld=lld
$(eval $(call flags_file,$(mutation)/flags,$$(MUTATION_CXXFLAGS)))

mutation_lib_objects := $(portable_sources:%=$(mutation)/obj/%.o)
mutation_test_objects := $(mutation_tests:%=$(mutation)/obj/%.o)
$(mutation)/obj/%.cpp.o: %.cpp $(mutation)/flags
	$(call say,$< (for mutants))
	@mkdir -p $(@D)
	$(quiet)clang++-19 $(MUTATION_CXXFLAGS) $(depends) -c $< -o $@
$(mutation)/portable.a: $(mutation_lib_objects)
	@rm -f $@; llvm-ar-19 rcs $@ $^
$(mutation)/unmutated: $(mutation_test_objects) $(mutation)/portable.a
	$(call say,link $@)
	$(quiet)clang++-19 $(MUTATION_LDFLAGS) $^ $(HOST_LIBS) -o $@

mutants: $(mutation)/unmutated
	@python3 tools/mutants.py $(T)
-include $(mutation_lib_objects:.o=.d) $(mutation_test_objects:.o=.d)
