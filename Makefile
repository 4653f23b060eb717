# make                       the library, the program, the examples
# make check                 builds and runs the tests; TESTS='tests/text/*' for some of them
# make install               to PREFIX (default /usr/local), under DESTDIR if given
# make check-emulated        the CUDA backend on an emulated card (docs/decisions/0010)
# make check-neon            the parts without libraries, cross-built for aarch64 and tested under qemu
# MODE=release|debug|asan|ubsan|tsan   CUDA=1 (CUDA_ARCH=90a: for that alone)   WERROR=1   CC=clang   BUILD=folder
MODE ?= release
BUILD ?= build/$(MODE)
PREFIX ?= /usr/local
VERSION := $(shell sed -n 's/.*define LARDER_VERSION "\(.*\)"/\1/p' include/larder.h)
SOVERSION := 0
include src/layers.mk

HOSTCC ?= cc
ifeq ($(origin CC),default)
CC := $(CROSS)gcc
endif
ifeq ($(origin AR),default)
AR := $(CROSS)ar
endif
OS := $(shell uname -s)
ARCH := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
PKGCONFIG ?= pkg-config
# The confinement of serve is Linux's.
ifneq ($(OS),Linux)
PKGS_serve := $(filter-out libseccomp,$(PKGS_serve))
endif

# ---------------------------------------------------------------- flags
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla $(if $(WERROR),-Werror)
FLAGS := -std=c11 -D_GNU_SOURCE -g -fPIC -fno-math-errno -ffp-contract=off -pthread $(WARN)
FLAGS_release := -O3 -fno-semantic-interposition
FLAGS_debug := -O1 -DLR_CHECK_ALLOC -DLR_WRAP_MALLOC
FLAGS_asan := -O1 -DLR_CHECK_ALLOC -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
FLAGS_ubsan := -O1 -DLR_CHECK_ALLOC -fsanitize=undefined -fno-sanitize-recover=all
FLAGS_tsan := -O1 -DLR_CHECK_ALLOC -fsanitize=thread
# For script/fuzz, with CC=clang: libFuzzer takes the place of the driver that replays corpora.
FLAGS_fuzz := -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
ifeq ($(filter $(MODE),release debug asan ubsan tsan fuzz),)
$(error MODE=$(MODE): one of release, debug, asan, ubsan, tsan)
endif
FLAGS += $(FLAGS_$(MODE))
# The kernels (mm_*, attn_*, vec_*) are large once expanded and synchronise nothing: sanitizers pass them by, but for
# addresses, which are checked by calls. That and no variable tracking keep gcc from minutes per file.
KERNEL_debug := -g0
KERNEL_ubsan := -g0 -fno-sanitize=all
KERNEL_tsan := -g0 -fno-sanitize=all
KERNEL_fuzz := -g0 -fno-sanitize=all
KERNEL_asan := -fno-sanitize=undefined
ifeq ($(findstring clang,$(CC)),)
KERNEL_asan += -fno-var-tracking --param asan-instrumentation-with-call-threshold=0 --param asan-stack=0
endif
LINK := -pthread $(filter -fsanitize%,$(FLAGS_$(MODE)))
ifeq ($(MODE)$(OS),debugLinux)
LINK += -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
endif
LIBS := -lm
# How much longer a test may take than it asks for.
SCALE_asan := 4
SCALE_ubsan := 3
SCALE_tsan := 15
TIME_SCALE := $(if $(CROSS)$(EMULATE),10,$(or $(SCALE_$(MODE)),1))

# A cross build has no libraries: it takes the layers that need none (hwloc excepted, which base can miss).
ifneq ($(CROSS),)
LAYERS := base quant model plan backend
PKGS_base :=
LINK += -static
endif
ifeq ($(filter hwloc,$(PKGS_base)),)
FLAGS += -DLR_NO_HWLOC
endif

# The layers a link takes in, highest first, as static libraries want it.
closure = $1 $(foreach u,$(USES_$1),$(call closure,$u))
reverse = $(if $1,$(call reverse,$(wordlist 2,$(words $1),$1)) $(firstword $1))
order = $(filter $1,$(call reverse,$(LAYERS)))
needs = $(call order,$(sort $(foreach l,$1,$(call closure,$l))))
archives = $(patsubst %,$(BUILD)/lib-%.a,$1)
pkgs = $(sort $(foreach l,$1,$(PKGS_$l)))
pkg_libs = $(if $1,$(shell $(PKGCONFIG) --libs $1))

ifeq ($(filter clean layers,$(MAKECMDGOALS)),)
MISSING := $(foreach p,$(call pkgs,$(LAYERS)),$(shell $(PKGCONFIG) --exists $p || echo $p))
ifneq ($(strip $(MISSING)),)
$(error missing: $(MISSING). script/bootstrap installs what larder needs)
endif
endif
# yajl.pc names the folder inside the one that <yajl/...> is looked for in.
YAJL_Darwin = -isystem $(shell $(PKGCONFIG) --variable=prefix yajl)/include
$(foreach l,$(LAYERS),$(eval CFLAGS_$l := $(if $(PKGS_$l),$(shell $(PKGCONFIG) --cflags $(PKGS_$l)) \
    $(if $(filter yajl,$(PKGS_$l)),$(YAJL_$(OS))))))
# A header may itself include what its own layer uses, so a search path takes in those too; script/layers is stricter.
# For quotes only: a <sched.h> is the system's.
$(foreach l,$(LAYERS),$(eval INCLUDES_$l := -Iinclude $(addprefix -iquote src/,$(sort $(call closure,$l)))))
$(eval ALL_INCLUDES := -Iinclude $(addprefix -iquote src/,$(LAYERS)))
INCLUDES_backend += -iquote src/backend/cpu -iquote src/backend/cuda

# ---------------------------------------------------------------- sources
# Kernels named for an instruction set (mm_avx2.c, mm_avx2_vnni.c) get its flags, and exist on its machines only.
# They use nothing lr_cpu_has_isa does not ask for; bf16 products, which it does not, are written in assembly.
SIMD_avx2 := -mavx2 -mfma -mf16c
SIMD_vnni := -mavxvnni
SIMD_avx512 := $(SIMD_avx2) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni
SIMD_vbmi := -mavx512vbmi -mavx512bitalg -mgfni
SIMD_neon := -march=armv8.2-a+dotprod
SIMD_i8mm := -march=armv8.2-a+dotprod+i8mm
OTHER := $(if $(filter x86_64 i686,$(ARCH)),neon,$(if $(filter aarch64 arm64,$(ARCH)),avx2 avx512,neon avx2 avx512))
parts = $(subst _, ,$(basename $(notdir $1)))
KERNELS := mm attn vec peak
kernel = $(if $(filter src/backend/cpu/%,$1),$(if $(filter $(KERNELS),$(firstword $(call parts,$1))),$(KERNEL_$(MODE))))
simd = $(if $(filter src/backend/cpu/%,$1),$(foreach w,$(call parts,$1),$(SIMD_$w)))

sources = $(foreach f,$(wildcard src/$1/*.c src/$1/cpu/*.c),$(if $(filter $(OTHER),$(call parts,$f)),,$f))
objects = $(patsubst %,$(BUILD)/obj/%.o,$1)
$(foreach l,$(LAYERS),$(eval OBJECTS_$l := $(call objects,$(call sources,$l))))

ifeq ($(CUDA),1)
NVCC ?= $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
CUDA_SOURCES := $(wildcard src/backend/cuda/*.cu)
ifneq ($(NVCC),)
# Machine code per generation; Hopper's own instructions need its own target (90a). Other generations have none.
CUDA_ARCH ?= 80 86 89 90a 100 120 121
GENCODE := $(foreach a,$(CUDA_ARCH),-gencode arch=compute_$a,code=sm_$a)
# And for those to come, what the driver compiles, of the newest that is not of one generation only.
GENCODE += $(foreach a,$(lastword $(filter-out %a,$(CUDA_ARCH))),-gencode arch=compute_$a,code=compute_$a)
OBJECTS_backend += $(call objects,$(CUDA_SOURCES) $(wildcard src/backend/cuda/*.c))
CUDA_INCLUDE := -isystem $(dir $(NVCC))../include
$(foreach l,backend engine tools golden,$(eval CFLAGS_$l += -DLR_CUDA $(CUDA_INCLUDE)))
LIBS += -L$(dir $(NVCC))../lib64 -lcudart_static -lstdc++ -ldl -lrt
else
$(warning CUDA=1: no nvcc, so no CUDA backend)
endif
endif

# The CUDA backend for a card that is emulated (docs/decisions/0010): tests alone are ever built so.
ifeq ($(EMULATE),1)
CUDA_SOURCES := $(filter-out %/peak.cu,$(wildcard src/backend/cuda/*.cu))
OBJECTS_backend += $(call objects,$(CUDA_SOURCES) $(wildcard src/backend/cuda/*.c) $(wildcard tests/emulate/*.cpp))
$(foreach l,backend engine tools golden,$(eval CFLAGS_$l += -DLR_CUDA -Itests/emulate))
EMULATED := $(filter-out -std=% -Wstrict-prototypes -Wmissing-prototypes -Wshadow -O3,$(FLAGS)) -std=c++17 -O2 -fno-strict-aliasing \
    -DLR_CUDA -DLR_EMULATED -Itests/emulate -include tests/emulate/device.h $(INCLUDES_backend) \
    -Wno-unknown-pragmas -Wno-psabi -Wno-unused-function -Wno-unused-parameter -Wno-missing-field-initializers -Wno-sign-compare
LIBS += -lstdc++
endif

LIBRARY := $(filter-out tools serve cli,$(LAYERS))
LIBRARY_OBJECTS := $(foreach l,$(LIBRARY),$(OBJECTS_$l))
MAIN := $(if $(filter cli,$(LAYERS)),$(wildcard src/cli/main.c))
EXAMPLES := $(if $(MAIN),$(patsubst %.c,$(BUILD)/%,$(wildcard examples/*.c)))

TESTS ?= tests/*/*
SELECTED := $(sort $(wildcard $(TESTS)))
named = $(strip $(foreach f,$(SELECTED),$(if $(filter $1,$(notdir $f)),$f)))
TEST_SOURCES := $(call named,test_%.c) $(call named,fuzz_%.c)
ifneq ($(CROSS),)
TEST_SOURCES := $(filter $(foreach l,$(LAYERS),tests/$l/%),$(TEST_SOURCES))
endif
TEST_PROGRAMS := $(TEST_SOURCES:%.c=$(BUILD)/%)
TEST_SCRIPTS := $(if $(CROSS),,$(call named,%.test))

ifeq ($(OS),Darwin)
SHARED := $(BUILD)/liblarder.$(SOVERSION).dylib
SHARED_LINK := -dynamiclib -install_name @rpath/$(notdir $(SHARED)) -Wl,-exported_symbol,_larder_*
PLAIN_SHARED := liblarder.dylib
else
SHARED := $(BUILD)/liblarder.so.$(SOVERSION)
SHARED_LINK := -shared -Wl,-soname,$(notdir $(SHARED)),--version-script=src/liblarder.map,-z,defs,-z,relro,-z,now
PLAIN_SHARED := liblarder.so
endif
# A sanitizer's own functions come with the program, so a library may leave them undefined.
ifneq ($(filter -fsanitize%,$(LINK)),)
SHARED_LINK := $(SHARED_LINK:%,-z,defs=%)
endif

# ---------------------------------------------------------------- building
.PHONY: all check check-neon check-emulated tests install uninstall clean layers
.DELETE_ON_ERROR:
.SECONDARY:
all: $(BUILD)/liblarder.a $(if $(CROSS),,$(SHARED)) $(if $(MAIN),$(BUILD)/larder) $(EXAMPLES) $(BUILD)/compile_commands.json

layer_of = $(word 2,$(subst /, ,$1))
# Tests are compiled at -O1: sooner done, and gcc 12 for aarch64 fails in its vectoriser on one of them.
flags_of = $(FLAGS) $(or $(INCLUDES_$(call layer_of,$1)),$(ALL_INCLUDES)) $(CFLAGS_$(call layer_of,$1)) $(call simd,$1) \
    $(call kernel,$1) $(if $(filter tests/%,$1),-Itests -O1) $(if $(filter tests/fuzz/%,$1),-Wno-missing-prototypes) \
    $(CPPFLAGS) $(CFLAGS)
# Each object leaves its command beside it, for compile_commands.json. A change of flags needs a `make clean`.
define compile
@mkdir -p $(@D)
@echo "CC $<"
@$(CC) $(call flags_of,$<) -MMD -MP -c $< -o $@
@printf '{"directory": "%s", "file": "%s", "command": "%s"}\n' '$(CURDIR)' '$<' \
    '$(CC) $(strip $(call flags_of,$<)) -c $<' >$@.json
endef

$(BUILD)/obj/%.c.o: %.c
	$(compile)
# The catalogue is part of the program: each data/*.csv becomes an array.
EMBEDDED := machines models software workloads
EMBEDDED := $(foreach t,$(EMBEDDED),$(wildcard data/$t.csv))
$(BUILD)/gen/data.c: $(EMBEDDED)
	@mkdir -p $(@D)
	@{ echo '#include <stddef.h>'; for f in $(EMBEDDED); do t=$$(basename $$f .csv); \
	    echo "extern const char lr_data_$$t[]; extern const size_t lr_data_$${t}_n; const char lr_data_$$t[] = {"; \
	    od -An -v -td1 $$f | sed 's/\(-*[0-9][0-9]*\)/\1,/g'; \
	    echo "0}; const size_t lr_data_$${t}_n = sizeof lr_data_$$t - 1;"; done; } >$@
# So is the description of the server's routes.
$(BUILD)/gen/openapi.c: docs/openapi.yaml
	@mkdir -p $(@D)
	@{ echo 'extern const char lr_openapi[]; const char lr_openapi[] = {'; \
	    od -An -v -td1 $< | sed 's/\(-*[0-9][0-9]*\)/\1,/g'; echo '0};'; } >$@
$(BUILD)/obj/gen/%.c.o: $(BUILD)/gen/%.c
	@mkdir -p $(@D)
	@$(CC) -std=c11 -fPIC -c $< -o $@
$(BUILD)/lib-serve.a: $(BUILD)/obj/gen/openapi.c.o
$(BUILD)/lib-plan.a: $(BUILD)/obj/gen/data.c.o
LIBRARY_OBJECTS += $(BUILD)/obj/gen/data.c.o
$(BUILD)/obj/%.cu.o: %.cu
	@mkdir -p $(@D)
	@echo "$(if $(filter 1,$(EMULATE)),CXX,NVCC) $<"
ifeq ($(EMULATE),1)
	@$(CXX) $(EMULATED) $(CXXFLAGS) -x c++ -MMD -MP -c $< -o $@
else
	@$(NVCC) -O3 -std=c++17 $(GENCODE) --compiler-options -fPIC $(NVCCFLAGS) $(subst -iquote ,-I,$(INCLUDES_backend)) -DLR_CUDA -MMD -c $< -o $@
endif
$(BUILD)/obj/%.cpp.o: %.cpp
	@mkdir -p $(@D)
	@echo "CXX $<"
	@$(CXX) $(EMULATED) $(CXXFLAGS) -MMD -MP -c $< -o $@

define archive
@mkdir -p $(@D)
@echo "AR $@"
@rm -f $@
@$(AR) rcs $@ $^
endef
$(foreach l,$(LAYERS),$(eval $(BUILD)/lib-$l.a: $(OBJECTS_$l)))
$(BUILD)/lib-%.a:
	$(archive)
$(BUILD)/liblarder.a: $(LIBRARY_OBJECTS)
	$(archive)

define link
@mkdir -p $(@D)
@echo "LD $@"
@$(CC) $(LINK) $(LDFLAGS) $(filter %.o %.a,$^) $(call pkg_libs,$(call pkgs,$1)) $(LIBS) -o $@
endef
$(SHARED): $(LIBRARY_OBJECTS) src/liblarder.map
	@echo "LD $@"
	@$(CC) $(filter-out -static,$(LINK)) $(SHARED_LINK) $(LDFLAGS) $(filter %.o,$^) \
	    $(call pkg_libs,$(call pkgs,$(LIBRARY))) $(LIBS) -o $@
	@ln -sf $(@F) $(BUILD)/$(PLAIN_SHARED)
$(BUILD)/larder: $(call archives,$(call order,$(LAYERS)))
	$(call link,$(LAYERS))
$(BUILD)/examples/%: $(BUILD)/obj/examples/%.c.o $(BUILD)/liblarder.a
	$(call link,$(LIBRARY))

ifeq ($(MODE),fuzz)
$(BUILD)/tests/fuzz/%: LINK += -fsanitize=fuzzer
else
FUZZ_MAIN := $(BUILD)/obj/tests/fuzz/driver.c.o
endif
# A test program links its own layer and what that one uses, a fuzz target the layers that read what others wrote;
# tests/<anything else> link everything.
FUZZ_LAYERS := load text model plan engine serve
test_layers = $(if $(filter $1,$(LAYERS)),$(call needs,$1),$(if $(filter fuzz,$1),$(call needs,$(FUZZ_LAYERS)),\
    $(call order,$(filter-out cli,$(LAYERS)))))
define test_rule
$(BUILD)/tests/$1/%: $(BUILD)/obj/tests/$1/%.c.o $(if $(filter fuzz,$1),$(FUZZ_MAIN)) \
    $(call archives,$(call test_layers,$1))
	$$(call link,$(call test_layers,$1))
endef
$(foreach d,$(sort $(call layer_of,x) $(foreach s,$(wildcard tests/*/*.c),$(call layer_of,$s))),$(eval $(call test_rule,$d)))

$(BUILD)/compile_commands.json: $(LIBRARY_OBJECTS) $(foreach l,tools serve cli,$(OBJECTS_$l))
	@find $(BUILD)/obj -name '*.o.json' -exec cat {} + | sed '$$!s/$$/,/; 1s/^/[/; $$s/$$/]/' >$@

# ---------------------------------------------------------------- tests
$(BUILD)/runner: tests/runner.c
	@mkdir -p $(@D)
	@$(HOSTCC) -std=c11 -D_GNU_SOURCE -O1 -g -Wall -Wextra $< -o $@

tests: $(BUILD)/runner $(TEST_PROGRAMS) $(if $(TEST_SCRIPTS),$(BUILD)/larder)

check: tests
	@LARDER_BIN='$(abspath $(BUILD))/larder' LARDER_BUILD='$(abspath $(BUILD))' LARDER_MODE='$(MODE)' \
	    LARDER_EMULATE='$(EMULATE)' $(if $(CROSS),LARDER_WRAP='qemu-$(ARCH)-static -cpu $(QEMU_CPU)') \
	    $(BUILD)/runner --scale $(TIME_SCALE) $(if $(JOBS),--jobs $(JOBS)) $(TEST_PROGRAMS) $(TEST_SCRIPTS)

# With all the emulator has; then the matrix products, quickly, on a machine with dot products alone.
QEMU_CPU := max
CHECK_NEON := $(MAKE) --no-print-directory CROSS=aarch64-linux-gnu- BUILD=$(BUILD)-neon check
check-neon:
	+@$(CHECK_NEON)
	+@$(if $(filter tests/backend/test_mm.c,$(SELECTED)),LARDER_QUICK=1 $(CHECK_NEON) TESTS=tests/backend/test_mm.c \
	    QEMU_CPU=neoverse-n1)

# The CUDA backend's kernels and host code on the emulated card; the kernels again where everything comes in another
# order, and on a card that has not what Hopper has.
CHECK_EMULATED := $(MAKE) --no-print-directory EMULATE=1 BUILD=$(BUILD)-emulated check
check-emulated:
	+@$(CHECK_EMULATED) TESTS='tests/backend/test_cuda_*.c tests/golden/test_cuda.c tests/cli/card.test'
	+@LARDER_EMULATED=order=reverse,copies=early,early=2 $(CHECK_EMULATED) TESTS='tests/backend/test_cuda_*.c'
	+@LARDER_EMULATED=arch=80,sm=3 $(CHECK_EMULATED) TESTS=tests/backend/test_cuda_mm.c

# ---------------------------------------------------------------- installing
INSTALLED = bin/larder lib/liblarder.a lib/$(notdir $(SHARED)) lib/$(PLAIN_SHARED) include/larder.h \
    lib/pkgconfig/liblarder.pc share/man/man1/larder.1 share/bash-completion/completions/larder \
    share/zsh/site-functions/_larder
install: all
	@install -d $(addprefix $(DESTDIR)$(PREFIX)/,$(sort $(dir $(INSTALLED))))
	install -m 755 $(BUILD)/larder $(DESTDIR)$(PREFIX)/bin/larder
	install -m 644 $(BUILD)/liblarder.a $(SHARED) $(DESTDIR)$(PREFIX)/lib/
	ln -sf $(notdir $(SHARED)) $(DESTDIR)$(PREFIX)/lib/$(PLAIN_SHARED)
	install -m 644 include/larder.h $(DESTDIR)$(PREFIX)/include/larder.h
	sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|; s|@REQUIRES@|$(call pkgs,$(LIBRARY))|; s|@LIBS@|$(LIBS)|' \
	    liblarder.pc.in >$(DESTDIR)$(PREFIX)/lib/pkgconfig/liblarder.pc
	install -m 644 man/larder.1 $(DESTDIR)$(PREFIX)/share/man/man1/larder.1
	install -m 644 script/completion/larder.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/larder
	install -m 644 script/completion/_larder $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_larder
	@[ -n '$(DESTDIR)' ] || [ $(OS) != Linux ] || ldconfig 2>/dev/null || \
	    echo 'run ldconfig as root, or programs will not find $(PREFIX)/lib/$(notdir $(SHARED))'
uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/,$(INSTALLED))

layers:
	@script/layers
clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
