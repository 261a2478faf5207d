#!/bin/sh
# Installs the Debian packages that are missing. Without network or rights it names them and goes on:
# the console then works without what needs them.
set -u

missing=""
need() { # need PACKAGE TEST...: the package is wanted when the test fails
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
have_library() { ldconfig -p | grep -q "$1"; }
have_postgresql() { command -v initdb || ls /usr/lib/postgresql/*/bin/initdb; }
have_font() { fc-list 2>/dev/null | grep -qi "ipa.*gothic\|noto sans.*cjk"; }
have_venv() { python3 -c "import ensurepip, venv"; }

PATH=$PATH:/usr/sbin:/sbin
need gcc command -v gcc
need pkg-config command -v pkg-config
need libmariadb-dev pkg-config --exists libmariadb
need gettext command -v msgfmt
need postgresql have_postgresql
need mariadb-server command -v mariadbd
need mariadb-backup command -v mariabackup
need sqlite3 command -v sqlite3
need libpango-1.0-0 have_library libpango-1.0.so.0
need libpangoft2-1.0-0 have_library libpangoft2-1.0.so.0
need libharfbuzz-subset0 have_library libharfbuzz-subset.so.0
need fontconfig command -v fc-list
need fonts-ipafont-gothic have_font
need python3-venv have_venv
[ "$(command -v python3)" != /usr/bin/python3 ] || need python3-dev test -e "$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"
for extra in "$@"; do # further packages, each with the program it brings: chromium=chromium
    need "${extra%%=*}" command -v "${extra##*=}"
done
[ -n "$missing" ] || exit 0

echo "Installing:$missing" >&2
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo -n"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq >/dev/null 2>&1
# Their servers are for tests and demos in folders of our own: none may start by itself on this machine.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap '$sudo rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' | $sudo tee /usr/sbin/policy-rc.d >/dev/null
    $sudo chmod 755 /usr/sbin/policy-rc.d
fi
# shellcheck disable=SC2086  (a list of package names)
if ! $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null 2>&1; then
    for package in $missing; do
        $sudo apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 ||
            echo "Could not install $package; going on without it." >&2
    done
fi
exit 0
