#!/bin/bash
#
# Builds the extension and runs its tests; enter.sh calls this.
#
# TESTS selects parts (unit, regress, isolation, tap) or files; empty means
# everything.  The last line counts every assertion of the unit and TAP
# programs, and every file of the regression and isolation tests.
#
set -euo pipefail

# shellcheck source=test/harness/lib.sh
. test/harness/lib.sh
# shellcheck source=test/harness/tree.sh
. test/harness/tree.sh

readonly LOG=$WORK/log
readonly PGXS=$PG_DIR/lib/pgxs

# Nothing takes nearly as long; what hangs must not keep the rest from running.
readonly MAX_SECONDS=${MAX_SECONDS:-600}

passed=0
failed=0
skipped=0
failures=()

# Runs a command with its output in a log.  In the foreground, so that Ctrl-C
# reaches it too.
logged() {
	local log=$1

	shift
	timeout --foreground --kill-after=10 "$MAX_SECONDS" "$@" >"$log" 2>&1
}

# Shows the end of the given files, as far as they exist, without the control
# characters that hostile answers bring.
show() {
	local file

	for file; do
		if [[ -s $file ]]; then
			printf -- '--- %s\n' "${file#"$WORK/"}"
			tail -n 60 "$file" | tr -d '\000-\010\013-\037\177'
		fi
	done
}

# Copies the given files, as far as they exist, to the logs that enter.sh keeps.
keep() {
	local directory=$1 file

	shift
	for file; do
		[[ ! -e $file ]] || cp -R "$file" "$directory/"
	done
}

# Adds to the totals and prints a line about what ran since the given second.
count() {
	local name=$1 since=$2 ok=$3 not_ok=$4 skip=${5:-0}

	passed=$((passed + ok))
	failed=$((failed + not_ok))
	((not_ok == 0)) || failures+=("$name")
	skipped=$((skipped + skip))
	printf '%-40s %5d passed, %d failed %4d s\n' \
		"$name" "$ok" "$not_ok" $((SECONDS - since))
}

# Counts the TAP lines of a log.  A program that fails without a failed
# assertion, because it died, counts as one.
count_tap() {
	local name=$1 since=$2 log=$3 status=$4 ok not_ok skip

	read -r ok not_ok skip < <(awk '
		/^ok .*# (skip|SKIP)/ || /^[^ ]* \.+ skipped: / { skip++; next }
		/^not ok / && !/# TODO/ { not_ok++; next }
		/^(not )?ok / { ok++ }
		END { print ok + 0, not_ok + 0, skip + 0 }' "$log")
	if ((status != 0 && not_ok == 0)); then
		not_ok=1
	fi
	count "$name" "$since" "$ok" "$not_ok" "$skip"
}

# Builds and installs with warnings as errors.  A failure counts as one.
run_build() {
	if ! PG_CFLAGS=-Werror build >"$LOG/build" 2>&1; then
		failed=$((failed + 1))
		failures+=(build)
		show "$LOG/build"
		return 1
	fi
}

# Runs the C programs that need no PostgreSQL.
run_unit() {
	local log=$LOG/unit status=0 since=$SECONDS

	logged "$log" make unit UNIT_FILES="$*" PROVE_FLAGS=--verbose || status=$?
	count_tap unit "$since" "$log" "$status"
	((status == 0)) || show "$log"
}

# Runs one of PGXS's two kinds of pg_regress tests, in a server of its own.
run_pg_regress() {
	local part=$1 kind=$2 log=$LOG/$1/output names=() status=0 since=$SECONDS
	local file not_ok=0 options="--temp-instance=$WORK/$1 --encoding=UTF8"

	shift 2
	for file; do
		file=${file##*/}
		names+=("${file%.*}")
	done

	mkdir "$LOG/$part"
	logged "$log" make --silent installcheck PG_CONFIG="$BIN/pg_config" \
		REGRESS= ISOLATION= TAP_TESTS= "$kind=${names[*]}" \
		EXTRA_REGRESS_OPTS="$options --temp-config=test/regress.conf" ||
		status=$?

	if ((status != 0)); then
		not_ok=$(sed -nE 's/^[# ]*([0-9]+) of [0-9]+ tests failed.*/\1/p' "$log")
		keep "$LOG/$part" regression.diffs log "$WORK/$part/log"
	fi
	count "$part" "$since" $(($# - ${not_ok:=$#})) "$not_ok"
	((status == 0)) || show "$log" "$LOG/$part/regression.diffs"
}

run_regress() {
	run_pg_regress regress REGRESS "$@"
}

run_isolation() {
	run_pg_regress isolation ISOLATION "$@"
}

# Runs TAP programs like PGXS, which however removes the logs of the one before.
run_tap() {
	local log=$LOG/tap file name status since

	mkdir "$log"
	for file; do
		name=$(basename "$file" .pl)
		status=0
		since=$SECONDS
		logged "$log/$name" env TESTDIR="$PWD" TESTDATADIR="$PWD/tmp_check" \
			TESTLOGDIR="$PWD/tmp_check/log" \
			PG_REGRESS="$PGXS/src/test/regress/pg_regress" \
			prove --verbose -I "$PGXS/src/test/perl" "$file" || status=$?
		count_tap "$file" "$since" "$log/$name" "$status"
		if ((status != 0)); then
			keep "$log" tmp_check/log/*"$name"*
			show "$log/$name" "$log/regress_log_$name"
		fi
	done
}

# Prints those of the given files of a part that TESTS selects.
select_files() {
	local part=$1 file wanted

	shift
	for file; do
		for wanted in ${TESTS:-$part}; do
			if [[ $wanted == "$part" || $wanted == "$file" ]]; then
				echo "$file"
				break
			fi
		done
	done
}

# Runs a part with what is selected of its files.
run_part() {
	local part=$1 files

	mapfile -t files < <(select_files "$@")
	if ((${#files[@]} > 0)); then
		note "$part"
		"run_$part" "${files[@]}"
	else
		note "$part: no tests${TESTS:+ selected}"
	fi
}

# Names what failed once more: where the middle of a long output is cut off,
# as on many CI services, nothing else says it.
print_failures() {
	local name log

	for name in "${failures[@]}"; do
		printf 'FAILED: %s\n' "$name"
		for log in "$LOG/tap/$(basename "$name" .pl)" "$LOG/$name" "$LOG/$name/output"; do
			[[ ! -f $log ]] || grep -aE '^not ok|FAILED' "$log" | head -n 10 || true
		done
	done | tr -d '\000-\010\013-\037\177'
	note "the logs are in tmp_check/failed"
}

# Ends with the line that machines read.
print_totals() {
	local skips=

	if ((skipped > 0)); then
		skips=", $skipped skipped"
	fi
	if ((failed > 0)); then
		print_failures
	fi
	printf '%d passed, %d failed%s\n' "$passed" "$failed" "$skips"
}

main() {
	shopt -s nullglob
	exec </dev/null

	run_part unit test/unit/test_*.c

	note "building for PostgreSQL $PG_MAJOR"
	make_tree
	if run_build; then
		run_part regress test/sql/*.sql
		run_part isolation test/specs/*.spec
		run_part tap test/t/*.pl
	fi

	if ((passed + failed + skipped == 0)); then
		note "TESTS names nothing: $TESTS"
	fi
	print_totals
	((failed == 0 && passed > 0))
}

main
