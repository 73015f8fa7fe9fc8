#!/bin/bash
#
# Builds the extension and runs benchmarks; enter.sh calls this.
#
# BENCH selects programs of test/bench by name; empty means all of them.
#
set -euo pipefail

# shellcheck source=test/harness/lib.sh
. test/harness/lib.sh
# shellcheck source=test/harness/tree.sh
. test/harness/tree.sh

readonly PGXS=$PG_DIR/lib/pgxs

# Runs a program with what PostgreSQL's Perl modules want to find.  It writes its
# figures to descriptor 3.
run_bench() {
	local log=$WORK/log/${1##*/}

	env TESTDIR="$PWD" TESTDATADIR="$PWD/tmp_check" TESTLOGDIR="$WORK/log" \
		PG_REGRESS="$PGXS/src/test/regress/pg_regress" PG_CONFIG="$PG_DIR/bin/pg_config" \
		perl -I "$PGXS/src/test/perl" "$1" 3>&1 >"$log" 2>&1 || {
		cp -r tmp_check/log "$WORK/log/servers" 2>/dev/null || true
		cat "$log" "$WORK"/log/servers/regress_log_* 2>/dev/null | tail -n 40
		die "$1 failed; the logs are in tmp_check/failed"
	}
}

main() {
	local name names

	note "building for PostgreSQL $PG_MAJOR"
	make_tree
	quietly build
	note "$(nproc) processors, $(LC_ALL=C lscpu | sed -nE 's/^Model name: *//p')"
	read -ra names <<<"${BENCH:-$(cd test/bench && echo *.pl)}"
	for name in "${names[@]}"; do
		note "${name%.pl}"
		run_bench "test/bench/${name%.pl}.pl"
	done
}

main </dev/null
