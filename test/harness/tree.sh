# shellcheck shell=bash
#
# A private PostgreSQL installation with the extension in it, so that nothing
# is installed into the system's.

readonly PG_DIR=${PG_DIR:-/usr/lib/postgresql/$PG_MAJOR}
readonly ROOT=$WORK/root
readonly BIN=$ROOT$PG_DIR/bin

# Makes the installation.  PostgreSQL finds its libraries and its share
# directory relative to its program file, with symbolic links resolved, so the
# programs have to be copies; for everything else links are enough.
make_tree() {
	local share

	share=$("$PG_DIR/bin/pg_config" --sharedir)
	mkdir -p "$ROOT$PG_DIR" "$ROOT$share"
	cp -R "$PG_DIR/bin" "$ROOT$PG_DIR/"
	cp -Rs "$PG_DIR/lib" "$ROOT$PG_DIR/"
	cp -Rs "$share/." "$ROOT$share/"
	export PATH=$BIN:$PATH
}

# Runs PGXS for the installation that the headers belong to.  No bitcode: that
# would need the clang that PostgreSQL was built with.
pgxs() {
	make --silent with_llvm=no PG_CONFIG="$PG_DIR/bin/pg_config" "$@"
}

# Compiles the extension and puts it into the private installation.
build() {
	pgxs --jobs="$(nproc)" && pgxs install DESTDIR="$ROOT"
}
