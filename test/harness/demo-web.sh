#!/bin/bash
#
# Shows the administration page: a fresh server with the extension, PostgREST, a
# stand-in provider and accounts whose numbers move, until Ctrl-C; enter.sh calls
# this.
#
set -euo pipefail

# shellcheck source=test/harness/lib.sh
. test/harness/lib.sh
# shellcheck source=test/harness/tree.sh
. test/harness/tree.sh

readonly PGXS=$PG_DIR/lib/pgxs

main() {
	note "building for PostgreSQL $PG_MAJOR"
	make_tree
	quietly build

	note "starting PostgreSQL, PostgREST and a stand-in provider"
	mkdir -p tmp_check
	TESTDIR="$PWD" TESTDATADIR="$PWD/tmp_check" TESTLOGDIR="$WORK/log" \
		PG_REGRESS="$PGXS/src/test/regress/pg_regress" \
		perl -I "$PGXS/src/test/perl" -I test/perl test/supabase/demo.pl 2>"$WORK/log/demo" || (($? > 128)) ||
		die "it failed: $(tail -n 5 "$WORK/log/demo" "$WORK/log/regress_log_demo")"
}

main
