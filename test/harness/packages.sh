# shellcheck shell=bash
#
# Installs what is missing of the packages that building, the demo and the
# tests need, without touching a database cluster of the machine.

readonly OLDEST_POSTGRES=15
readonly CREATECLUSTER=/etc/postgresql-common/createcluster.d
readonly NO_CLUSTER=$CREATECLUSTER/zz_wfx_mt4.conf

readonly POLICY=/usr/sbin/policy-rc.d

readonly SPLINTER_URL=https://raw.githubusercontent.com/supabase/splinter/55db5b1f28e58d816f7d9136eed87eabcd95868d/splinter.sql

LISTS_READ=

# Only apt needs more rights than the caller has.
as_root() {
	if ((EUID == 0)); then
		"$@"
	else
		sudo "$@"
	fi
}

# Reads the package lists once, so that what they name can still be fetched.
# A repository that cannot be reached need not be one that we use.
refresh_lists() {
	if ((EUID != 0)) && ! { command -v sudo && sudo true; } >/dev/null 2>&1; then
		die "ask root to install: ${*:-PostgreSQL $OLDEST_POSTGRES or newer}"
	fi
	if [[ -z $LISTS_READ ]]; then
		note "reading package lists"
		quietly as_root apt-get update -q ||
			note "continuing with the package lists at hand"
		LISTS_READ=yes
	fi
}

# Removes nothing, and restarts no service of the machine.
install_packages() {
	refresh_lists "$@"
	note "installing $*" | fold -s -w 79
	quietly as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
		apt-get install -y -q --no-install-recommends --no-remove \
		-o DPkg::Lock::Timeout=120 "$@"
}

# Runs a command that installs PostgreSQL, which then does not create and start
# a cluster: that is up to the machine's owner.
without_new_cluster() (
	made=()
	trap 'allow_clusters "${made[@]}"' EXIT

	for dir in "${CREATECLUSTER%/*}" "$CREATECLUSTER"; do
		if [[ ! -d $dir ]]; then
			as_root mkdir "$dir"
			made=("$dir" "${made[@]}")
		fi
	done
	echo 'create_main_cluster = false' | as_root tee "$NO_CLUSTER" >/dev/null
	"$@"
)

# Runs a command that installs a package whose service is not to be started: the
# benchmarks start an nginx of their own.
without_services() (
	if [[ ! -e $POLICY ]]; then
		trap 'as_root rm -f "$POLICY"' EXIT
		printf '#!/bin/sh\nexit 101\n' | as_root tee "$POLICY" >/dev/null
		as_root chmod +x "$POLICY"
	fi
	"$@"
)

# Undoes without_new_cluster, up to directories that are a package's by now.
allow_clusters() {
	local dir

	as_root rm -f "$NO_CLUSTER"
	for dir; do
		dpkg-query -S "$dir" >/dev/null 2>&1 ||
			as_root rmdir --ignore-fail-on-non-empty "$dir"
	done
}

# Prints the newest major version that is installed with server and headers.
installed_postgres() {
	local dir

	for dir in /usr/lib/postgresql/*; do
		if [[ -x $dir/bin/postgres &&
			-e /usr/include/postgresql/${dir##*/}/server/postgres.h ]]; then
			echo "${dir##*/}"
		fi
	done | sort -n | tail -n 1
}

# Prints the major version that the distribution's package "postgresql" means.
packaged_postgres() {
	LC_ALL=C apt-cache depends postgresql 2>/dev/null |
		sed -nE 's/^ *Depends: postgresql-([0-9]+)$/\1/p'
}

# Prints those of the given packages that are not installed.
missing_packages() {
	local package

	for package; do
		dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null |
			grep -q '^.i' || echo "$package"
	done
}

# Prints what a script needs besides PostgreSQL.
packages_of() {
	echo gcc libc6-dev libcurl4-openssl-dev libjson-c-dev make pkg-config
	case $1 in
		bench.sh) ! benches_contain client.mjs || packages_of_node ;;
		run.sh | valgrind.sh | demo-web.sh) packages_of_node ;;
	esac
	case $1 in
		valgrind.sh) echo bison curl dpkg-dev flex iproute2 libipc-run-perl nginx-light openssl perl python3 valgrind ;;
		demo.sh) echo python3 ;;
		demo-web.sh) echo libipc-run-perl nginx-light perl python3 ;;
		fuzz.sh) echo clang ;;
		static.sh) echo binutils cmake dpkg-dev g++ iproute2 libipc-run-perl libssl-dev openssl perl "postgresql-$PG_MAJOR-cron" python3 ;;
		bench.sh) echo curl libipc-run-perl libnginx-mod-http-echo libpq-dev nginx-light openssl perl python3 ;;
		run.sh)
			echo chromium curl fonts-dejavu-core iproute2 libipc-run-perl nginx-light openssl perl \
				"postgresql-$PG_MAJOR-cron" prometheus-sql-exporter python3 python3-yaml
			;;
	esac
}

# Prints the packages of Node.js, unless the machine has one of its own.
packages_of_node() {
	[[ $(command -v node) && $(command -v npm) ]] || echo nodejs npm
}

# Sets PG_MAJOR to the PostgreSQL to use.
choose_postgres() {
	PG_MAJOR=$(installed_postgres)
	if [[ -z $PG_MAJOR ]]; then
		refresh_lists
		PG_MAJOR=$(packaged_postgres)
	fi
	((${PG_MAJOR:-0} >= OLDEST_POSTGRES)) ||
		die "needs PostgreSQL $OLDEST_POSTGRES or newer," \
			"the distribution has ${PG_MAJOR:-none}"
}

# Provides PostgreSQL and what else a script needs.  Does not call apt where
# nothing is missing.
provide_packages() {
	local missing

	choose_postgres
	# shellcheck disable=SC2046
	mapfile -t missing < <(missing_packages "postgresql-$PG_MAJOR" \
		"postgresql-server-dev-$PG_MAJOR" $(packages_of "$1"))

	case ${missing[0]-} in
		'') ;;
		"postgresql-$PG_MAJOR") without_services without_new_cluster install_packages "${missing[@]}" ;;
		*) without_services install_packages "${missing[@]}" ;;
	esac
}

# Tells whether a test that TESTS selects contains a text.
tests_contain() {
	local text=$1 wanted

	for wanted in ${TESTS:-tap}; do
		if [[ $wanted == tap ]] || grep -qs "$text" "$REPO/$wanted"; then
			return 0
		fi
	done
	return 1
}

# Tells whether a benchmark that BENCH selects contains a text.
benches_contain() {
	local text=$1 name names

	read -ra names <<<"${BENCH:-$(cd "$REPO/test/bench" && echo *.pl)}"
	for name in "${names[@]}"; do
		if grep -qs "$text" "$REPO/test/bench/${name%.pl}.pl"; then
			return 0
		fi
	done
	return 1
}

# Installs what package.json in a directory of test lists into another, or copies it
# from where NODE_PACKAGES says that it is.
install_node_packages() {
	local list=$1 dir=$2

	note "installing npm packages"
	mkdir "$dir"
	if [[ -n ${NODE_PACKAGES-} ]]; then
		cp -R "$NODE_PACKAGES/." "$dir/"
		return
	fi
	cp "$REPO/test/$list/package.json" "$dir/"
	quietly npm install --prefix "$dir" --no-package-lock --ignore-scripts \
		--prefer-offline --no-audit --no-fund --loglevel=error
}

# Fetches Supabase's linter, which has no licence to be a part of this repository.
# Where that fails its test says that it was skipped.
fetch_splinter() {
	local file=$1

	note "fetching splinter.sql"
	if [[ -n ${SPLINTER-} ]]; then
		cp "$SPLINTER" "$file"
	elif ! curl --silent --fail --location --max-time 10 --output "$file" "$SPLINTER_URL"; then
		note "it cannot be had; SPLINTER=FILE names one that is there"
	fi
}

# Provides in the work directory what a script needs and no package of Debian has.
# The caller does so, with his settings of npm, and its cache.
provide_downloads() {
	local script=$1 work=$2

	case $script in
		bench.sh)
			! benches_contain client.mjs || install_node_packages bench "$work/node" ||
				die "npm could not install what test/bench/client.mjs needs: see above"
			;;
		demo-web.sh)
			install_node_packages supabase "$work/node" || die "npm could not install them: see above"
			;;
		run.sh | valgrind.sh)
			if tests_contain 'use Supabase;'; then
				install_node_packages supabase "$work/node" || {
					rm -rf "$work/node"
					note "npm could not install them; the tests that need them say so"
				}
			fi
			if tests_contain 'splinter.sql'; then
				fetch_splinter "$work/splinter.sql"
			fi
			;;
	esac
}
