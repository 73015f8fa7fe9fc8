#!/bin/bash
#
# Plays the demonstration: a fresh server with the extension, a stand-in
# provider, and test/demo/demo.sql; enter.sh calls this.
#
# With the argument "shell", a psql session follows.
#
set -euo pipefail

# shellcheck source=test/harness/lib.sh
. test/harness/lib.sh
# shellcheck source=test/harness/tree.sh
. test/harness/tree.sh

readonly DATA=$WORK/data
export PGHOST=$WORK PGUSER=postgres PGDATABASE=postgres

# Starts a server that only this user can reach, and waits until it accepts
# connections.
start_server() {
	quietly initdb --pgdata="$DATA" --username="$PGUSER" --auth=trust \
		--encoding=UTF8 --no-sync
	printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$WORK'" \
		"fsync = off" >>"$DATA/postgresql.conf"
	pg_ctl --pgdata="$DATA" --log="$WORK/log/server" --silent start ||
		die "the server did not start: $(tail -n 5 "$WORK/log/server")"
}

# Starts the stand-in provider and sets PROVIDER_PORT when it is ready.  It ends
# when its input does.  In a session of its own, it survives the Ctrl-C that
# cancels a query in psql.
start_provider() {
	coproc PROVIDER {
		exec setsid /usr/bin/python3 test/provider/provider.py \
			--exit-with-parent --drift 3 2>"$WORK/log/provider"
	}
	read -r PROVIDER_PORT <&"${PROVIDER[0]}" ||
		die "the provider did not start: $(tail -n 5 "$WORK/log/provider")"
}

# Stops what was started, in the reverse order.
stop() {
	if [[ -n ${PROVIDER_PID-} ]]; then
		kill "$PROVIDER_PID" 2>/dev/null || true
	fi
	if [[ -e $DATA/postmaster.pid ]]; then
		pg_ctl --pgdata="$DATA" --mode=fast --silent stop
	fi
}

# Runs psql for the demonstration's script and for the person who watches.
demo_psql() {
	psql -X -P pager=off -v provider="http://127.0.0.1:$PROVIDER_PORT" "$@"
}

play_demo() {
	demo_psql -q -v ON_ERROR_STOP=1 -f test/demo/demo.sql
}

main() {
	note "building for PostgreSQL $PG_MAJOR"
	make_tree
	quietly build

	note "starting a server and a stand-in provider"
	trap stop EXIT
	start_server
	start_provider

	play_demo
	if [[ ${1-} == shell ]]; then
		note "psql, which \\q ends.  Try: SELECT wfx_mt4_test_connection("
		note "    '77~html200', 't', :'provider');"
		demo_psql
	fi
}

main "$@"
