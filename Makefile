# wfx_mt4/Makefile

EXTENSION = wfx_mt4
MODULE_big = wfx_mt4
OBJS = \
	src/account.o \
	src/admin.o \
	src/catalog.o \
	src/cause.o \
	src/chores.o \
	src/claim.o \
	src/console.o \
	src/db.o \
	src/decode.o \
	src/due.o \
	src/functions.o \
	src/http.o \
	src/import.o \
	src/intake.o \
	src/launcher.o \
	src/origin.o \
	src/outcome.o \
	src/provider.o \
	src/queue.o \
	src/refresh.o \
	src/rights.o \
	src/schedule.o \
	src/secret.o \
	src/shared.o \
	src/step.o \
	src/store.o \
	src/sync.o \
	src/trust.o \
	src/wfx_mt4.o \
	src/worker.o
PGFILEDESC = "wfx_mt4 - synchronises MetaTrader accounts into a leaderboard"

# sql/ is what gets installed: one base script, then one script per upgrade, and
# the administration page.
DATA = $(wildcard sql/$(EXTENSION)--*.sql) sql/$(EXTENSION)_console.html
EXTRA_CLEAN = src/console_html.h

# test/sql/NAME.sql and test/specs/NAME.spec are compared with
# expected/NAME.out.
REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --load-extension=$(EXTENSION)

ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --outputdir=.

TAP_TESTS = 1
PROVE_TESTS = test/t/*.pl

PG_CPPFLAGS = $(shell pkg-config --cflags libcurl json-c)
# PostgreSQL's own headers, PG_TRY() among them, do not compile with these
# parts of -Wextra.
PG_CFLAGS += -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-clobbered
SHLIB_LINK = $(shell pkg-config --libs libcurl json-c)

# These goals find or install PostgreSQL themselves, or do without it.
HARNESS_GOALS = bench demo demo-shell demo-web fuzz static test test-versions unit valgrind

ifneq ($(filter-out $(HARNESS_GOALS) tmp_check/%,$(or $(MAKECMDGOALS),all)),)
PG_CONFIG ?= pg_config
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
SERVER_HEADERS := $(wildcard $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)/postgres.h)
# only to compile takes headers
ifeq ($(and $(PGXS),$(or $(SERVER_HEADERS),$(filter installcheck,$(MAKECMDGOALS)))),)
$(error install postgresql-server-dev-N for your PostgreSQL's major version N, \
	libcurl4-openssl-dev, libjson-c-dev and pkg-config, or set PG_CONFIG)
endif
include $(PGXS)

# PGXS tracks no headers by itself
$(OBJS): $(wildcard src/*.h)
src/console.o src/console.bc: src/console_html.h

# The page as a C string.
src/console_html.h: sql/$(EXTENSION)_console.html
	sed 's/[\\"?]/\\&/g; s/.*/"&\\n"/' $< >$@
endif

.PHONY: $(HARNESS_GOALS)

# Shows the extension at work; see test/demo.
demo:
	@bash test/harness/enter.sh demo.sh

# The same, followed by a psql session.
demo-shell:
	@bash test/harness/enter.sh demo.sh shell

# Shows the administration page, with PostgREST, until Ctrl-C.
demo-web:
	@bash test/harness/enter.sh demo-web.sh

# Runs all tests, or those named: make test TESTS="unit test/t/010_sync.pl"
test:
	@TESTS="$(TESTS)" bash test/harness/enter.sh run.sh

# Runs all benchmarks, or those named: make bench BENCH=worker
bench:
	@BENCH="$(BENCH)" bash test/harness/enter.sh bench.sh

# Runs the tests, or those named, under valgrind and with assertions.
valgrind:
	@TESTS="$(TESTS)" bash test/harness/enter.sh valgrind.sh

# Builds a library that needs nothing but libc: see docs/supabase-packaging.md.
static:
	@TESTS="$(TESTS)" bash test/harness/enter.sh static.sh

# Runs all tests in Debian releases: make test-versions VERSIONS="15 17"
test-versions:
	@bash test/harness/versions.sh $(VERSIONS)

# Fuzzes every target, or those named, for so many seconds each:
# make fuzz FUZZ=decode SECONDS=900
fuzz:
	@FUZZ="$(FUZZ)" FUZZ_SECONDS="$(or $(SECONDS),60)" bash test/harness/enter.sh fuzz.sh

# The plain C programs of test/unit, and those of test/fuzz with their corpus.
# They need no PostgreSQL.
UNIT_FILES = $(wildcard test/unit/test_*.c)
UNIT_TESTS = $(UNIT_FILES:test/unit/%.c=tmp_check/unit/%)
FUZZ_TARGETS = $(patsubst test/fuzz/fuzz_%.c,%,$(wildcard test/fuzz/fuzz_*.c))
UNIT_SOURCES = src/cause.c src/decode.c src/origin.c src/provider.c src/step.c
FUZZ_SOURCES = $(UNIT_SOURCES) src/http.c
UNIT_CFLAGS = -std=gnu99 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Werror -Isrc \
	$(UNIT_SANITIZE) $(shell pkg-config --cflags json-c libcurl)
UNIT_LIBS = $(shell pkg-config --libs json-c libcurl) -lm

# The sanitizers, if the compiler can link them.
UNIT_SANITIZE = $(shell flags='-fsanitize=address,undefined -fno-sanitize-recover=all'; \
	echo 'int main(void) { return 0; }' | \
	$(CC) $$flags -x c -o /dev/null - 2>/dev/null && echo $$flags)

unit: $(UNIT_TESTS) $(FUZZ_TARGETS:%=tmp_check/unit/replay_%)
	@prove $(PROVE_FLAGS) --exec '' $(UNIT_TESTS) $(FUZZ_TARGETS:%=tmp_check/unit/replay_%)

$(UNIT_TESTS): tmp_check/unit/%: test/unit/%.c $(UNIT_SOURCES) $(wildcard src/*.h test/unit/*.h)
	@mkdir -p $(@D)
	$(CC) $(UNIT_CFLAGS) -o $@ $< $(UNIT_SOURCES) $(UNIT_LIBS)

tmp_check/unit/replay_%: test/fuzz/fuzz_%.c test/fuzz/replay.c $(FUZZ_SOURCES) $(wildcard src/*.h test/*/*.h)
	@mkdir -p $(@D)
	$(CC) $(UNIT_CFLAGS) -DCORPUS='"test/fuzz/corpus/$*"' -o $@ $< test/fuzz/replay.c $(FUZZ_SOURCES) $(UNIT_LIBS)

# With libFuzzer, which comes with clang.
tmp_check/fuzz/%: test/fuzz/fuzz_%.c $(FUZZ_SOURCES) $(wildcard src/*.h test/*/*.h)
	@mkdir -p $(@D)
	clang $(filter-out -Werror,$(UNIT_CFLAGS)) -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=all -o $@ $< $(FUZZ_SOURCES) $(UNIT_LIBS)
