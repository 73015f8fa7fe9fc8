#!/bin/bash
#
# Builds a library that needs nothing but libc, and tests it; enter.sh calls this.
#
# libcurl, json-c and nghttp2 are built from the distribution's sources with what
# the extension uses and nothing else; OpenSSL is the distribution's own archive.
# Built on Debian 12, the result runs wherever glibc is 2.36 or newer.  TESTS
# selects tests, as for run.sh.
#
set -euo pipefail

# shellcheck source=test/harness/lib.sh
. test/harness/lib.sh
# shellcheck source=test/harness/source.sh
. test/harness/source.sh

readonly PREFIX=$WORK/static
readonly RESULT=$WORK/result/static
readonly PG_DIR=${PG_DIR:-/usr/lib/postgresql/$PG_MAJOR}

# What is tested unless TESTS says otherwise.
readonly DEFAULT_TESTS='regress test/t/010_sync.pl test/t/032_leaks.pl test/t/091_tls.pl test/t/110_worker.pl'

# Where Debian, Alpine and Ubuntu have the certificates that they trust.
readonly CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt

# Builds a package as an archive for a shared library, with options of its own.
build_archive() {
	local package=$1 build=$SOURCES/$1/build-static

	shift
	unpack_source "$package"
	quietly cmake -S "$SOURCES/$package" -B "$build" -DCMAKE_BUILD_TYPE=Release \
		-DCMAKE_INSTALL_PREFIX="$PREFIX" -DCMAKE_INSTALL_LIBDIR=lib \
		-DCMAKE_PREFIX_PATH="$PREFIX" -DCMAKE_POSITION_INDEPENDENT_CODE=ON \
		-DBUILD_SHARED_LIBS=OFF -DBUILD_TESTING=OFF "$@"
	quietly cmake --build "$build" --parallel "$(nproc)" --target install
}

# The protocols are those of src/http.c.  No compression, which it never asks
# for, and nothing that would need a library more.
build_archives() {
	list_sources
	build_archive json-c -DBUILD_STATIC_LIBS=ON -DBUILD_APPS=OFF -DDISABLE_EXTRA_LIBS=ON
	build_archive nghttp2 -DENABLE_LIB_ONLY=ON -DENABLE_STATIC_LIB=ON -DENABLE_SHARED_LIB=OFF
	build_archive curl -DBUILD_CURL_EXE=OFF -DHTTP_ONLY=ON -DUSE_NGHTTP2=ON \
		-DENABLE_THREADED_RESOLVER=ON -DCURL_ZLIB=OFF -DUSE_LIBIDN2=OFF \
		-DCURL_USE_LIBPSL=OFF -DCURL_USE_LIBSSH2=OFF \
		-DCURL_CA_BUNDLE="$CA_BUNDLE" -DCURL_CA_PATH=none
}

# The Makefile asks pkg-config for both libraries, and finds these.  No name of
# theirs is visible: the server has another OpenSSL.
describe_archives() {
	local directory=$PREFIX/pkgconfig

	mkdir "$directory"
	cat >"$directory/json-c.pc" <<-END
		Name: json-c
		Description: json-c, as an archive
		Version: $(version_of json-c)
		Cflags: -I$PREFIX/include/json-c
		Libs: $PREFIX/lib/libjson-c.a
	END
	cat >"$directory/libcurl.pc" <<-END
		Name: libcurl
		Description: libcurl and what it needs, as archives
		Version: $(version_of curl)
		Cflags: -I$PREFIX/include -DCURL_STATICLIB
		Libs: -Wl,--exclude-libs,ALL $PREFIX/lib/libcurl.a $PREFIX/lib/libnghttp2.a -l:libssl.a -l:libcrypto.a
	END
	export PKG_CONFIG_LIBDIR=$directory
}

# Prints the version of an unpacked source.
version_of() {
	dpkg-parsechangelog -l "$SOURCES/$1/debian/changelog" -S Version
}

# Prints the libraries that a library needs.
needed_by() {
	readelf --dynamic "$1" | sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p'
}

# Prints what a library takes from elsewhere than glibc.
wanted_by() {
	nm --dynamic --undefined-only "$1" | awk '$1 == "U" && $2 !~ /@GLIBC/ { print $2 }'
}

# Prints what a program or library has for others.
offered_by() {
	nm --dynamic --defined-only --format=posix "$1" | sed 's/[ @].*//'
}

# A symbol that is missing would show when it is first called, and one that is
# visible could be taken by the server, or for the server's.  Every PostgreSQL
# has loaded libm.
check_library() {
	local library=$1 needed unknown visible

	needed=$(needed_by "$library" | grep -vE '^(libc|ld-linux-.*)\.so\.[0-9]+$' || true)
	[[ -z $needed ]] || die "$library needs" "$needed"
	unknown=$(comm -23 <(wanted_by "$library" | sort) \
		<({ offered_by "$PG_DIR/bin/postgres"; offered_by "$(gcc -print-file-name=libm.so.6)"; } | sort))
	[[ -z $unknown ]] || die "$library lacks" "$unknown"
	visible=$(offered_by "$library" | grep -E '^(curl|json|nghttp2|CRYPTO|EVP|OPENSSL|SSL)_' || true)
	[[ -z $visible ]] || die "$library shows" "$visible"
}

# Prints what the library is made of, and the glibc that it asks for.
list_contents() {
	local package

	echo "PostgreSQL $PG_MAJOR"
	for package in curl json-c nghttp2; do
		echo "$package $(version_of "$package")"
	done
	dpkg-query -W -f '${source:Package} ${source:Version}\n' libssl-dev
	nm --dynamic --undefined-only wfx_mt4.so | grep -o 'GLIBC_[0-9.]*' |
		sort -uV | tail -n 1
}

# Leaves the files that are to be copied where enter.sh takes them from.
keep_result() {
	local staged=$WORK/staged

	make --silent with_llvm=no PG_CONFIG="$PG_DIR/bin/pg_config" install DESTDIR="$staged"
	mkdir -p "$RESULT/lib" "$RESULT/extension"
	find "$staged" -name '*.so' -exec cp {} "$RESULT/lib/" \;
	find "$staged" -type f -path '*/extension/*' -exec cp {} "$RESULT/extension/" \;
	list_contents | tee "$RESULT/contents.txt"
	note "made tmp_check/static"
}

main() {
	note "building libcurl, json-c and nghttp2 as archives"
	build_archives
	describe_archives
	TESTS=${TESTS:-$DEFAULT_TESTS} bash test/harness/run.sh
	check_library wfx_mt4.so
	keep_result
}

main </dev/null
