#!/bin/bash
#
# versions.sh [MAJOR...]
#
# Runs the tests with each PostgreSQL that a Debian release has, in a minimal
# installation of that release below .chroots, or WFX_CHROOTS.  Installations
# are kept for the next time; no mount and no process is.
#
set -euo pipefail

REPO=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
readonly REPO
readonly CHROOTS=${WFX_CHROOTS:-$REPO/.chroots}
readonly LOGS=$REPO/tmp_check/versions

# shellcheck source=test/harness/lib.sh
. "$REPO/test/harness/lib.sh"
# shellcheck source=test/harness/packages.sh
. "$REPO/test/harness/packages.sh"

# Prints the Debian release that has a major version of PostgreSQL.
release_of() {
	case $1 in
		15) echo bookworm ;;
		17) echo trixie ;;
		18) echo forky ;;
		*) die "no Debian release has PostgreSQL $1" ;;
	esac
}

# Prints the mirror that this machine installs Debian from.
debian_mirror() {
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' \
		'Origin: Debian' 'Label: Debian' | head -n 1
}

# Makes a minimal installation.  It gets its name when it is complete.
bootstrap() {
	local release=$1 mirror script=$1
	local partial=$CHROOTS/$1.partial

	mirror=$(debian_mirror)
	[[ -n $mirror ]] || die "apt has no Debian mirror to install from"
	# All releases are installed alike; debootstrap may not know the newest.
	if [[ ! -e /usr/share/debootstrap/scripts/$script ]]; then
		script=sid
	fi
	rm -rf "$partial" &&
		mkdir -p "$CHROOTS" &&
		debootstrap --variant=minbase "$release" "$partial" "$mirror" "$script" &&
		mv "$partial" "$CHROOTS/$release"
}

# Copies the working tree to where only root can read it.  A mirror may be old,
# and the package lists of a release in the making are valid for a week only.
prepare() {
	echo 'Acquire::Check-Valid-Until "false";' \
		>"$1/etc/apt/apt.conf.d/90wfx_mt4"
	rm -rf "$1/root/wfx_mt4"
	mkdir "$1/root/wfx_mt4"
	pack_tree | tar -C "$1/root/wfx_mt4" --no-same-owner -xf -
	rm -rf "$1/root/downloads"
	cp -R "$DOWNLOADS" "$1/root/downloads"
}

# Provides once, with the settings of this machine, what is not in Debian.
download() {
	DOWNLOADS=$(mktemp -d)
	trap 'rm -rf "$DOWNLOADS"' EXIT
	provide_downloads run.sh "$DOWNLOADS"
}

# Runs the continuous integration script in an installation.  The mounts and
# the processes end with their namespaces.
run_tests() {
	# shellcheck disable=SC2016
	unshare --mount --pid --fork --kill-child bash -c '
		mount -t proc proc "$1/proc" &&
		mount -t tmpfs -o mode=1777 tmpfs "$1/dev/shm" &&
		exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TESTS="$2" \
			NODE_PACKAGES=/root/downloads/node \
			SPLINTER="$([[ ! -e $1/root/downloads/splinter.sql ]] || echo /root/downloads/splinter.sql)" \
			chroot "$1" bash /root/wfx_mt4/.ci/run' bash "$1" "${TESTS:-}" </dev/null
}

# Tests one version and prints the line about it.
test_version() {
	local major=$1 release=$2 root=$CHROOTS/$2 log=$LOGS/$1.log status=0

	if [[ ! -d $root ]]; then
		note "installing Debian $release"
		quietly bootstrap "$release" || return
	fi
	printf 'PostgreSQL %s (%s): ' "$major" "$release"
	prepare "$root"
	run_tests "$root" >"$log" 2>&1 || status=$?
	rm -rf "$root/root/wfx_mt4"

	grep -aE '^[0-9]+ passed, [0-9]+ failed' "$log" || echo "no test ran"
	if ((status != 0)); then
		tail -n 60 "$log"
	fi
	return "$status"
}

main() {
	local major release passed=0 failed=0

	((EUID == 0)) || die "only root can enter another Debian release"
	command -v debootstrap >/dev/null || install_packages debootstrap
	mkdir -p "$LOGS"
	download

	for major; do
		release=$(release_of "$major")
		if test_version "$major" "$release"; then
			passed=$((passed + 1))
		else
			failed=$((failed + 1))
		fi
	done
	chown -R --reference="$REPO" "$REPO/tmp_check"
	printf '%d passed, %d failed\n' "$passed" "$failed"
	((failed == 0))
}

if (($# == 0)); then
	set -- 15 17 18
fi
main "$@"
