# shellcheck shell=sh
# apt with a state of its own, for tools/toolchain, tools/sources and tools/kernels. Sourced with the repository as the working directory.

say() { echo "toolchain: $*"; }
fail() { echo "toolchain: $*" >&2; exit 1; }

apt_dir=$PWD/build/toolchain/apt
apt_archives=$apt_dir/archives
apt_keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f $apt_keyring ] || apt_keyring=/usr/share/keyrings/debian-archive-keyring.pgp

apt_get() { APT_CONFIG=$apt_dir/apt.conf apt-get "$@"; }
apt_cache() { APT_CONFIG=$apt_dir/apt.conf apt-cache "$@"; }

# The mirrors that the host's own apt is configured with: the archive's, and the one for security (may be empty).
apt_host_mirrors() {
    mkdir -p "$apt_dir/none/partial"
    apt-get update --print-uris -o Dir::State::lists="$apt_dir/none" -o Debug::NoLocking=1 2>/dev/null |
        sed -n "s,^'\(.*\)/dists/\([^']*\)/InRelease'.*,\1 \2,p" >"$apt_dir/host"
    mirror=$(sed -n 's/ \(stable\|oldstable\|bookworm\|trixie\)$//p' "$apt_dir/host" | head -n 1)
    security=$(sed -n 's/ \(stable\|oldstable\|bookworm\|trixie\)-security.*$//p' "$apt_dir/host" | head -n 1)
}

# Writes the configuration and fetches the package lists. Does nothing when that was done in the last day.
apt_setup() {
    if [ -z "$(find "$apt_dir/ready" -mtime -1 2>/dev/null)" ]; then
        mkdir -p "$apt_dir/sources.list.d" "$apt_dir/lists/partial" "$apt_archives/partial"
        apt_host_mirrors
        mirror=${WEIR_MIRROR-$mirror}
        [ -n "$mirror" ] || fail "apt on this host names no Debian mirror: set WEIR_MIRROR to the URI of one"
        [ -f $apt_keyring ] || fail "$apt_keyring is missing: install debian-archive-keyring"
        say "using the Debian mirror of this host's configuration${WEIR_MIRROR:+ (WEIR_MIRROR)}"
        {
            apt_source "deb deb-src" "$mirror" "trixie trixie-updates trixie-backports"
            apt_source "deb-src" "$mirror" "bookworm"
            [ -z "$security" ] || apt_source "deb" "$security" "trixie-security"
        } >"$apt_dir/sources.list.d/weir.sources"
        # From trixie, except for what trixie has too old.
        cat >"$apt_dir/preferences" <<END
Package: *
Pin: release n=trixie-backports
Pin-Priority: 50

Package: src:qemu
Pin: release n=trixie-backports
Pin-Priority: 990
END
        : >"$apt_dir/status"
        {
            # How to reach a mirror (proxies and so on) is the host's business; all else is ours.
            apt-config dump | grep '^Acquire::' | grep -v '^Acquire::IndexTargets\|^Acquire::Languages'
            cat <<END
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt_dir/sources.list.d";
Dir::Etc::preferences "$apt_dir/preferences";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$apt_dir";
Dir::State::status "$apt_dir/status";
Dir::Cache "$apt_dir";
Dir::Cache::archives "$apt_archives";
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Debug::NoLocking "1";
END
        } >"$apt_dir/apt.conf"
        say "fetching the package lists of trixie"
        apt_get update -q=1 --error-on=any 2>"$apt_dir/update.log" || {
            cat "$apt_dir/update.log" >&2
            if grep -q NO_PUBKEY "$apt_dir/update.log"; then
                fail "$apt_keyring lacks trixie's key: upgrade debian-archive-keyring (2023.3+deb12u2 or newer)"
            fi
            fail "the package lists could not be fetched: is the mirror reachable, and does it carry trixie and trixie-backports? (WEIR_MIRROR names another)"
        }
        touch "$apt_dir/ready"
    fi
}

# PACKAGE FOLDER [APT OPTION...]: the binary package, for arm64, unpacked to FOLDER/PACKAGE. It is never installed.
get_arm64() {
    get_name=$1 get_at=$2/$1
    shift 2
    say "fetching $get_name for arm64"
    rm -rf "${get_at:?}"
    mkdir -p "$get_at"
    (cd "$get_at" && apt_get "$@" download -q=1 "$get_name:arm64" >"$apt_dir/source.log" 2>&1) ||
        fail "cannot fetch $get_name for arm64: $(tail -n 1 "$apt_dir/source.log")"
    dpkg-deb -x "$get_at"/*.deb "$get_at"
    dpkg-deb -W --showformat '${Package} ${Version} ${Architecture}\n' "$get_at"/*.deb >>"${get_at%/*}/packages.txt"
}

# PACKAGE IMAGE [APT OPTION...]: IMAGE is the raw kernel of linux-image-*, or of the linux-binary-* that the package depends
# on and leaves the kernel to (from 6.19 on).
get_kernel() {
    kernel_package=$1 kernel_image=$2 kernel_at=${2%/*}
    shift 2
    get_arm64 "$kernel_package" "$kernel_at" "$@"
    found=$(find "$kernel_at/$kernel_package" -name 'vmlinuz*' -type f)
    if [ -z "$found" ]; then
        binary=$(dpkg-deb -f "$kernel_at/$kernel_package"/*.deb Depends | tr ',' '\n' | sed -n 's/^ *\(linux-binary-[^ ]*\).*/\1/p' | head -n 1)
        [ -n "$binary" ] || fail "$kernel_package holds no vmlinuz and names no linux-binary-* package"
        rm -r "${kernel_at:?}/$kernel_package"
        kernel_package=$binary
        get_arm64 "$kernel_package" "$kernel_at" "$@"
        found=$(find "$kernel_at/$kernel_package" -name 'vmlinuz*' -type f)
        [ -n "$found" ] || fail "$kernel_package holds no vmlinuz"
    fi
    tools/enter python3 tools/unzboot.py "$found" "$kernel_image"
    rm -r "${kernel_at:?}/$kernel_package"
}

apt_source() { # TYPES URI SUITES
    printf 'Types: %s\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n\n' "$1" "$2" "$3" $apt_keyring
}
