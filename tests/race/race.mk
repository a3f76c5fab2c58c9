# Real threads over modelled SMMUs under ThreadSanitizer: build/host/race-tests, of objects of its own.

race_portable := $(call sources,guest-abi stage2 vsmmu hyp/smmu tests/model,cpp) hyp/vm/guest_memory.cpp tests/unit/support/log.cpp
race_sources := $(call sources,tests/race,cpp) $(race_portable)
RACE_CXXFLAGS := -std=c++23 -O1 -g -I. -fno-omit-frame-pointer -fsanitize=thread -include tests/race/yield.hpp
race_objects := $(patsubst %,build/host/tsan/%.o,$(race_sources))

$(eval $(call flags_file,build/host/tsan/flags,$$(RACE_CXXFLAGS) $$(warnings)))
build/host/tsan/%.cpp.o: %.cpp build/host/tsan/flags
	$(call say,$< (race))
	@mkdir -p $(@D)
	$(quiet)clang++-19 $(RACE_CXXFLAGS) $(warnings) $(depends) -c $< -o $@
build/host/race-tests: $(race_objects)
	$(call say,link $@)
	$(quiet)clang++-19 -fsanitize=thread -fuse-ld=lld $^ -lgmock_main -lgmock -lgtest -lpthread -o $@
race: build/host/race-tests
	@build/host/race-tests $(if $(T),--gtest_filter='*$(T)*')
# Whether these tests notice what they are for.
race-mutants: build/host/race-tests
	@python3 tests/race/mutants.py $(T)

-include $(race_objects:.o=.d)
