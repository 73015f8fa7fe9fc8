#!/bin/bash
#
# Runs the tests with every server process under valgrind; enter.sh calls this.
#
# The server is built from the distribution's source with assertions, and tells
# valgrind what its allocator does.  That takes some minutes, and the tests about
# ten times as long as usual; TESTS selects some, as for run.sh.
#
set -euo pipefail

# shellcheck source=test/harness/lib.sh
. test/harness/lib.sh
# shellcheck source=test/harness/source.sh
. test/harness/source.sh

# A path with this name in it makes directories as the packages have them.
readonly SERVER=$WORK/postgresql
readonly REPORTS=$WORK/log/valgrind

# Without the distribution's patches, which fix the directories.
build_server() {
	local module

	list_sources
	unpack_source "postgresql-$PG_MAJOR" --skip-patches
	cd "$SOURCES/postgresql-$PG_MAJOR"
	quietly ./configure --prefix="$SERVER" --enable-cassert --enable-debug \
		--enable-tap-tests --without-readline --without-zlib --without-icu \
		CPPFLAGS=-DUSE_VALGRIND CFLAGS=-Og
	quietly make --jobs="$(nproc)" install
	for module in pg_stat_statements postgres_fdw spi; do
		quietly make -C "contrib/$module" install
	done
	cp src/tools/valgrind.supp "$SERVER/"
	cd "$OLDPWD"
}

# Puts valgrind in front of the server, initdb's short runs excepted.
wrap_server() {
	mv "$SERVER/bin/postgres" "$SERVER/bin/postgres.real"
	cat >"$SERVER/bin/postgres" <<-END
		#!/bin/bash
		server=\$(dirname "\$0")/postgres.real
		case " \$* " in
			*" --boot "* | *" --check "* | *" --single "* | *" -V "* | *" -C "*) exec "\$server" "\$@" ;;
		esac
		exec valgrind --quiet --trace-children=yes --leak-check=no --num-callers=20 \\
			--suppressions="$SERVER/valgrind.supp" --error-markers=ERROR-BEGIN,ERROR-END \\
			--log-file="$REPORTS/%p" "\$server" "\$@"
	END
	chmod +x "$SERVER/bin/postgres"
}

# Prints what valgrind found, and how much.
report() {
	local found

	found=$(cat "$REPORTS"/* | grep -c ERROR-BEGIN || true)
	if ((found > 0)); then
		grep -h -A 25 ERROR-BEGIN "$REPORTS"/* | head -n 200
	fi
	note "valgrind: $found errors in $(find "$REPORTS" -type f | wc -l) processes"
	((found == 0))
}

main() {
	local status=0

	note "building PostgreSQL $PG_MAJOR with assertions"
	build_server
	wrap_server
	mkdir "$REPORTS"
	PG_DIR=$SERVER MAX_SECONDS=5400 PG_TEST_TIMEOUT_DEFAULT=1800 WFX_SLOWER=10 \
		bash test/harness/run.sh || status=1
	report || status=1
	return "$status"
}

main </dev/null
