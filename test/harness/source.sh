# shellcheck shell=bash
#
# Sources of the distribution, fetched without touching apt's own lists.

readonly SOURCES=$WORK/apt

# Runs apt's programs with lists of their own, in which the sources are.
private_apt() {
	"$@" -o Dir::Etc::SourceList="$SOURCES/sources.list" \
		-o Dir::Etc::SourceParts=- -o Dir::State::Lists="$SOURCES/lists" \
		-o Dir::Cache="$SOURCES/cache" -o APT::Sandbox::User=
}

# Reads which sources there are.  A repository that cannot be read, with a key
# of its own for example, need not be one that we use.
list_sources() {
	mkdir -p "$SOURCES/lists/partial" "$SOURCES/cache/archives/partial"
	# shellcheck disable=SC2016
	apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' | sort -u >"$SOURCES/sources.list"
	quietly private_apt apt-get -q update ||
		note "continuing without some lists of sources"
}

# Downloads a version of a package's source to the working directory.
download_source() {
	private_apt apt-get -q source --download-only "$1=$2" >"$WORK/log/source" 2>&1
}

# Unpacks the newest source of a package that there is, into the directory of
# its name, with dpkg-source's options: a mirror need not have every one that
# its list names.
unpack_source() (
	package=$1
	shift
	mkdir "$SOURCES/$package.download"
	cd "$SOURCES/$package.download" || exit
	for version in $(private_apt apt-cache showsrc "$package" |
		sed -n 's/^Version: //p' | sort -Vru); do
		if download_source "$package" "$version"; then
			quietly dpkg-source --no-check "$@" -x ./*.dsc "$SOURCES/$package"
			exit
		fi
	done
	tail -n 5 "$WORK/log/source"
	die "no source of $package can be fetched"
)
