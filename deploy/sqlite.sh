#!/bin/sh
# Puts a current SQLite into FOLDER, for the tests: the shell, whose .recover is what a salvage is measured by, and
# SQLite's own corpus of damaged files. From Debian's source package sqlite3 as of unstable, by apt with lists of its
# own, so that nothing of this machine's changes. Done already: nothing.
set -eu

mkdir -p "$1"
folder=$(cd "$1" && pwd)
[ ! -x "$folder/sqlite3" ] || exit 0
part=$folder/part
rm -rf "$part"
mkdir -p "$part/lists/partial" "$part/archives/partial" "$part/source"
keys=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb-src [signed-by=$keys] http://deb.debian.org/debian sid main" >"$part/sources.list"
cat >"$part/apt.conf" <<END
Dir::Etc::sourcelist "$part/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$part/lists";
Dir::Cache "$part";
APT::Sandbox::User "";
END
(
    export APT_CONFIG="$part/apt.conf"
    apt-get -q update
    cd "$part/source"
    apt-get -q source --download-only sqlite3
    for archive in ./*.orig.tar.*; do tar -xf "$archive"; done
    cd sqlite3-*/
    ./configure --disable-tcl --disable-shared
    make sqlite3 CFLAGS="-O1 -DSQLITE_ENABLE_DBPAGE_VTAB"
) >"$folder/log" 2>&1 || {
    tail -n 3 "$folder/log" >&2
    echo "Debian's source package sqlite3 could not be had and built; see $folder/log." >&2
    exit 1
}
mkdir -p "$folder/corpus"
mv "$part"/source/sqlite3-*/test/fuzzdata*.db "$folder/corpus/"
mv "$part"/source/sqlite3-*/sqlite3 "$folder/sqlite3"
rm -rf "$part"
