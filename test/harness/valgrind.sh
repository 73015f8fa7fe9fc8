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

# A path with this name in it makes directories as the packages have them.
readonly SERVER=$WORK/postgresql
readonly REPORTS=$WORK/log/valgrind

# Runs apt's programs with lists of their own, in which the sources are.
private_apt() {
	"$@" -o Dir::Etc::SourceList="$WORK/apt/sources.list" \
		-o Dir::Etc::SourceParts=- -o Dir::State::Lists="$WORK/apt/lists" \
		-o Dir::Cache="$WORK/apt/cache" -o APT::Sandbox::User=
}

# Unpacks the newest source that there is: a mirror need not have every one that
# its list names.  Without the distribution's patches, which fix the directories.
unpack_source() {
	local version

	cd "$WORK/apt"
	for version in $(private_apt apt-cache showsrc "postgresql-$PG_MAJOR" |
		sed -n 's/^Version: //p' | sort -Vru); do
		if private_apt apt-get -q source --download-only "postgresql-$PG_MAJOR=$version" >"$WORK/log/source" 2>&1; then
			quietly dpkg-source --no-check --skip-patches -x ./*.dsc postgresql
			cd "$OLDPWD"
			return
		fi
	done
	tail -n 5 "$WORK/log/source"
	die "no source of PostgreSQL $PG_MAJOR can be fetched"
}

fetch_source() {
	mkdir -p "$WORK/apt/lists/partial" "$WORK/apt/cache/archives/partial"
	# shellcheck disable=SC2016
	apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' | sort -u >"$WORK/apt/sources.list"
	quietly private_apt apt-get -q update
	unpack_source
}

build_server() {
	cd "$WORK/apt/postgresql"
	quietly ./configure --prefix="$SERVER" --enable-cassert --enable-debug \
		--enable-tap-tests --without-readline --without-zlib --without-icu \
		CPPFLAGS=-DUSE_VALGRIND CFLAGS=-Og
	quietly make --jobs="$(nproc)" install
	quietly make -C contrib/pg_stat_statements install
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
	fetch_source
	build_server
	wrap_server
	mkdir "$REPORTS"
	PG_DIR=$SERVER MAX_SECONDS=5400 PG_TEST_TIMEOUT_DEFAULT=1800 WFX_SLOWER=10 \
		bash test/harness/run.sh || status=1
	report || status=1
	return "$status"
}

main </dev/null
