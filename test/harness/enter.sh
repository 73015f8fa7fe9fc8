#!/bin/bash
#
# enter.sh SCRIPT [ARGUMENT...]
#
# Runs test/harness/SCRIPT with what it needs: the packages, a copy of the
# working tree in a work directory, and a user that PostgreSQL accepts.
# Whatever happens, the work directory and all that runs in it are gone
# afterwards; of a failure the logs remain, in tmp_check/failed, and what a
# script puts into $WORK/result, in tmp_check.
#
set -euo pipefail

REPO=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
readonly REPO

# The work directory, once there is one; never one that the caller names.
WORK=

# shellcheck source=test/harness/lib.sh
. "$REPO/test/harness/lib.sh"
# shellcheck source=test/harness/packages.sh
. "$REPO/test/harness/packages.sh"

# PostgreSQL refuses root, who therefore hands over to its package's user.
as_user() {
	if ((EUID == 0)); then
		setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"
	else
		"$@"
	fi
}

# Makes the work directory.  TMPDIR need not suit: the path of a socket has at
# most 107 bytes, PGXS splits at blanks, and root's may be closed to others.
make_work() {
	local parent=${TMPDIR:-/tmp}

	if [[ ! $parent =~ ^/[[:alnum:]/._-]{1,40}$ ]] ||
		! as_user test -w "$parent"; then
		parent=/tmp
	fi
	WORK=$(as_user mktemp -d "$parent/wfx.XXXXXX")
	as_user mkdir "$WORK/home" "$WORK/log" "$WORK/src"
}

# Copies the working tree, which the user may be unable to read where it is.
copy_tree() {
	pack_tree | as_user tar -C "$WORK/src" -xf -
}

# Runs a script of the copy.  It sees nothing of the caller's environment but the
# sizes of benchmarks, BENCH_NAME, for make, PostgreSQL, Perl and Python would find
# settings there.  LANG is for PostgreSQL's TAP modules, which remove LC_ALL.
run_script() {
	local script=$1
	local -a sizes

	shift
	mapfile -t sizes < <(env | grep -E '^BENCH_[A-Z]+=[0-9a-z,]+$' || true)
	as_user env --ignore-environment --chdir="$WORK/src" \
		--default-signal=INT,QUIT \
		PATH=/usr/local/bin:/usr/bin:/bin \
		HOME="$WORK/home" TMPDIR="$WORK" TERM="${TERM:-dumb}" \
		LANG=C.UTF-8 LC_ALL=C.UTF-8 \
		WORK="$WORK" PG_MAJOR="$PG_MAJOR" TESTS="${TESTS:-}" BENCH="${BENCH:-}" \
		FUZZ="${FUZZ:-}" FUZZ_SECONDS="${FUZZ_SECONDS:-60}" "${sizes[@]}" \
		bash "test/harness/$script" "$@"
}

# Prints what runs in the work directory.  Everything that is started there
# stays there, servers included.
leftovers() {
	as_user find /proc/[0-9]*/cwd -maxdepth 0 -lname "$WORK*" -printf '%h\n' \
		2>/dev/null | sed 's,/proc/,,'
}

# Ends what a script could not end itself because it was killed.  PostgreSQL
# takes SIGQUIT for an immediate shutdown, which removes its shared memory.
stop_leftovers() {
	local deadline=$((SECONDS + 5)) signal=QUIT pids

	while mapfile -t pids < <(leftovers) && ((${#pids[@]} > 0)); do
		kill -s "$signal" "${pids[@]}" 2>/dev/null || true
		sleep 0.2
		((SECONDS < deadline)) || signal=KILL
	done
}

# Copies a directory of the work directory to where a developer looks for it.
keep() {
	local from=$1 to=$2

	mkdir -p "$to"
	as_user tar -C "$from" -cf - . | tar -C "$to" --no-same-owner -xf -
	if ((EUID == 0)); then
		chown -R --reference="$REPO" "$REPO/tmp_check"
	fi
}

# Leaves what is of use afterwards: the logs of a failure, or what was made.
keep_output() {
	local status=$1

	if ((status != 0)); then
		keep "$WORK/log" "$REPO/tmp_check/failed"
	elif [[ -d $WORK/result ]]; then
		keep "$WORK/result" "$REPO/tmp_check"
	fi
}

# The last thing that happens, whatever the reason.  An impatient second Ctrl-C
# or the hangup that follows a closed terminal does not stop it.
clean_up() {
	local status=$?

	trap '' HUP INT TERM
	if [[ -n $WORK ]]; then
		stop_leftovers
		keep_output "$status" || true
		rm -rf "$WORK"
	fi
}

main() {
	cd /
	rm -rf "$REPO/tmp_check/failed"
	provide_packages "$1"
	trap clean_up EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	make_work
	copy_tree
	provide_downloads "$1" "$WORK"
	# bash heeds a signal at once while it waits, but not while a command runs
	run_script "$@" <&0 &
	wait $!
}

main "$@"
