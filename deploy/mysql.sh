#!/bin/sh
# Puts MySQL's own server and tools into a folder of their own, for `make test-mysql`, and prints the folder.
# Debian carries them in unstable only, and they cannot be installed beside MariaDB: the packages are
# fetched with all they need, C library too, unpacked, and run with that library. Nothing is installed.
set -eu

if [ "$(id -u)" = 0 ]; then cache=/var/cache; else cache=${XDG_CACHE_HOME:-$HOME/.cache}; fi
home=${DBMAINT_MYSQL_HOME:-$cache/dbmaint-mysql}
PATH=$PATH:/usr/sbin:/sbin

is_mysql() { "$1" --no-defaults --version 2>/dev/null | grep -v MariaDB | grep -q Ver; }
if is_mysql "$home/bin/mysqld" && { [ ! -d "$home/root" ] || [ -e "$home/root/usr/sbin/mysqld.my" ]; }; then
    echo "$home"
    exit 0
fi

part=$home.part
rm -rf "$part" "$home"
mkdir -p "$part/bin"

if is_mysql mysqld; then # the machine's own will do
    for program in mysqld mysql mysqldump innochecksum; do
        ln -s "$(command -v $program)" "$part/bin/$program"
    done
    mv "$part" "$home"
    echo "$home"
    exit 0
fi

mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | head -n 1) || true
keys=/usr/share/keyrings/debian-archive-keyring.gpg
if [ -z "$mirror" ] || [ ! -r "$keys" ]; then
    echo "No MySQL server here: it comes from Debian, and this machine has no Debian mirror configured." >&2
    exit 1
fi

# An apt of our own, to which nothing is installed yet: it fetches everything down to the C library.
apt=$part/apt
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
: >"$apt/status"
echo "deb [signed-by=$keys] $mirror sid main" >"$apt/sources.list"
cat >"$apt/apt.conf" <<END
Dir::State "$apt"; Dir::State::status "$apt/status"; Dir::State::lists "$apt/lists"; Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/sources.list"; Dir::Etc::sourceparts "-";
APT::Sandbox::User "$(id -un)"; Acquire::Languages "none"; Debug::NoLocking "true";
END
export APT_CONFIG="$apt/apt.conf"
apt-get -qq update >&2
apt-get -qq -y --no-install-recommends --download-only install mysql-server-core mysql-client-core >&2
root=$part/root
for package in "$apt"/cache/archives/*.deb; do
    case $package in
    */perl* | */libperl*) ;; # for scripts that nobody runs here
    *) dpkg-deb -x "$package" "$root" ;;
    esac
done
rm -rf "$apt" "$root/usr/share/doc" "$root/usr/share/man"

loader=$(cd "$root" && ls -d usr/lib/*/ld-linux-*.so.* | head -n 1)
libraries=${loader%/*}
for program in sbin/mysqld bin/mysql bin/mysqldump bin/innochecksum; do
    # Where its messages and plugins are must come last: --no-defaults must come first.
    tail=""
    [ "$program" != sbin/mysqld ] || tail="--basedir='$home/root/usr'"
    cat >"$part/bin/${program#*bin/}" <<END
#!/bin/sh
exec '$home/root/$loader' --library-path '$home/root/$libraries:$home/root/$libraries/mysql/private' \\
    '$home/root/usr/$program' "\$@" $tail
END
done
# Each server of the tests says in its own data folder whether it has a keyring, and where.
echo '{"read_local_manifest": true}' >"$root/usr/sbin/mysqld.my"
echo '{"read_local_config": true}' >"$root/usr/lib/mysql/plugin/component_keyring_file.cnf"
chmod -R a+rX "$part"
chmod 755 "$part"/bin/*
mv "$part" "$home"
if ! is_mysql "$home/bin/mysqld"; then
    echo "MySQL's server was fetched into $home and does not run there." >&2
    exit 1
fi
echo "$home"
