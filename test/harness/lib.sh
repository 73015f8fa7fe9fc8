# shellcheck shell=bash
#
# What all scripts of this directory share.

# Tells what is being done.
note() {
	printf '== %s\n' "$*"
}

# Gives up with one sentence.
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# Runs a command whose output is of interest only if it fails.
quietly() {
	local output status=0

	output=$("$@" 2>&1 </dev/null) || status=$?
	if ((status != 0)); then
		printf '%s\n' "$output" >&2
	fi
	return "$status"
}

# Prints an archive of the working tree without what was made in it.
pack_tree() {
	tar -C "$REPO" --exclude-vcs --exclude=./.chroots --exclude=./tmp_check \
		--exclude='*.o' --exclude='*.so' -cf - .
}
