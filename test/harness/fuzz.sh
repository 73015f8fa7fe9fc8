#!/bin/bash
#
# Fuzzes what reads what strangers send; enter.sh calls this.
#
# FUZZ selects targets of test/fuzz by name, empty means all of them; FUZZ_SECONDS
# says how long each runs.  What is found remains in tmp_check/failed.
#
set -euo pipefail

# shellcheck source=test/harness/lib.sh
. test/harness/lib.sh

# Runs one target from its corpus; new inputs are kept apart.
fuzz() {
	local target=$1 log=$WORK/log/$1 status=0

	quietly make "tmp_check/fuzz/$target"
	mkdir -p "$WORK/found/$target" "$WORK/log/found_$target"
	"tmp_check/fuzz/$target" -max_total_time="$FUZZ_SECONDS" -timeout=10 \
		-rss_limit_mb=1024 -max_len=16384 -print_final_stats=1 \
		-artifact_prefix="$WORK/log/found_$target/" \
		"$WORK/found/$target" "test/fuzz/corpus/$target" >"$log" 2>&1 || status=$?
	printf '%-12s %s\n' "$target" "$(grep -E '^Done|^SUMMARY|^.*violated' "$log" | tr '\n' ' ')"
	if ((status != 0)); then
		tail -n 40 "$log"
		return 1
	fi
}

main() {
	local target targets failed=0

	read -ra targets <<<"${FUZZ:-$(cd test/fuzz && printf '%s\n' fuzz_*.c |
		sed -E 's/fuzz_(.*)\.c/\1/' | tr '\n' ' ')}"
	note "${#targets[@]} targets, $FUZZ_SECONDS s each"
	for target in "${targets[@]}"; do
		fuzz "$target" || failed=$((failed + 1))
	done
	printf '%d passed, %d failed\n' $((${#targets[@]} - failed)) "$failed"
	((failed == 0))
}

main </dev/null
