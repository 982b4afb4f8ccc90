#!/usr/bin/env bash
# Builds the container images from what cargo built, into target/images/NAME.tar (docker-archive), for `lab load`.
# What they contain beside our programs comes from the Debian that prerequisites.sh unpacked, and is kept in the cache.
set -Eeuo pipefail

usage() {
    cat <<'TEXT'
Usage: tools/build-images.sh [--profile debug|release] [--with docker|buildah] [IMAGE…]

Images: node (localhost/meridian-node:dev), agent (localhost/meridian-agent:dev), hub (localhost/meridian-hub:dev, with the
command line); all without arguments.
--with decides who builds; without it docker where a docker engine answers, else buildah.
An image whose inputs did not change is not built again.
TEXT
}

# Packages in each image. The node's shell and tools are for people who look into a pod.
readonly NODE_PACKAGES="base-files libc6 libgcc-s1 libstdc++6 libatomic1 liblzf1 libjemalloc2 libsystemd0 libcap2
    libssl3t64 zlib1g libzstd1 ca-certificates valkey-server valkey-tools
    dash coreutils libselinux1 libacl1 libattr1 libgmp10 libpcre2-8-0"
# Agent and hub.
readonly PROGRAM_PACKAGES="base-files libc6 libgcc-s1 ca-certificates"
# A second server in the node's image, beside that of its packages. The Containerfile names both.
readonly NEWER_SERIES=9.1
# Nothing in a container reads these.
readonly LEFT_OUT='^\./(usr/share/(doc|man|locale|lintian|info|bash-completion|bug|gdb)|etc/(init\.d|logrotate\.d|default|valkey)|usr/lib/(systemd|tmpfiles\.d|sysusers\.d)|usr/lib/[^/]+/gconv|boot)(/|$)'

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${MERIDIAN_CACHE:-$HOME/.cache/meridian}
rootfs=$cache/valkey-trixie/rootfs
profile=debug
builder=
images=()
out=$root/target/images

say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }
die() { printf 'build-images: %s\n' "$*" >&2; exit 1; }

parse_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --profile) [ $# -ge 2 ] || die "--profile needs debug or release"; profile=$2; shift 2 ;;
            --with) [ $# -ge 2 ] || die "--with needs docker or buildah"; builder=$2; shift 2 ;;
            -h | --help) usage; exit 0 ;;
            node | agent | hub) images+=("$1"); shift ;;
            *) die "unknown argument '$1'; see --help" ;;
        esac
    done
    case $profile in debug | release) ;; *) die "unknown profile '$profile': debug or release" ;; esac
    [ ${#images[@]} -gt 0 ] || images=(node agent hub)
}

choose_builder() {
    if [ -z "$builder" ]; then
        if docker info >/dev/null 2>&1; then builder=docker; else builder=buildah; fi
    fi
    case $builder in
        docker | buildah) command -v "$builder" >/dev/null || die "$builder is missing: run tools/prerequisites.sh --only apt" ;;
        *) die "unknown builder '$builder': docker or buildah" ;;
    esac
}

# base NAME PACKAGES: the path of an archive with the files of these packages, made once.
base() {
    local name=$1 packages=$2 key target stage package list
    key=$( (printf '%s %s' "$packages" "$LEFT_OUT"; cat "$rootfs/var/lib/dpkg/status" $(newer "$name")) | sha256sum | cut -c1-16)
    target=$cache/image-bases/$name-$key.tar
    if [ ! -f "$target" ]; then
        mkdir -p "$cache/image-bases"
        stage=$(mktemp -d "$cache/image-bases/stage.XXXXXX")
        for package in $packages; do
            list=$(find "$rootfs/var/lib/dpkg/info" \( -name "$package.list" -o -name "$package:*.list" \) -print -quit)
            [ -n "$list" ] || die "package $package is not in $rootfs: remove that folder and run tools/prerequisites.sh --only valkey"
            cat "$list"
        done | sed -n 's|^/\(..*\)|./\1|p' | sort -u | grep -vE "$LEFT_OUT" >"$stage.list"
        printf '%s\n' ./bin ./lib ./lib64 ./sbin >>"$stage.list"
        # Merged folders: what a package lists as /lib/x lies in /usr/lib/x, and comes along by that name.
        (cd "$rootfs" && sort -u "$stage.list" | while read -r path; do
            case $path in ./bin/* | ./lib/* | ./lib64/* | ./sbin/*) path=./usr/${path#./} ;; esac
            if [ -e "$path" ] || [ -L "$path" ]; then printf '%s\n' "$path"; fi
        done | sort -u) >"$stage.found"
        tar -C "$rootfs" --no-recursion -cf - -T "$stage.found" | tar -C "$stage" -xf -
        cp -a "$rootfs/etc/ssl/certs" "$stage/etc/ssl/"
        printf 'root:x:0:0:root:/:/usr/sbin/nologin\nmeridian:x:1001:1001::/var/lib/meridian:/usr/sbin/nologin\n' >"$stage/etc/passwd"
        printf 'root:x:0:\nmeridian:x:1001:\n' >"$stage/etc/group"
        install -d -o 1001 -g 1001 "$stage/var/lib/meridian" "$stage/run/meridian"
        [ -z "$(newer "$name")" ] || install -D "$(newer "$name")" "$stage/opt/valkey-$NEWER_SERIES/bin/valkey-server"
        check_libraries "$stage"
        tar -C "$stage" --sort=name --numeric-owner --mtime=@0 -cf "$stage.tar" .
        mv "$stage.tar" "$target"
        rm -rf "$stage" "$stage.list" "$stage.found"
    fi
    printf '%s\n' "$target"
}

# newer NAME: the path of the newer server, for the image that has it.
newer() { [ "$1" != node ] || printf '%s\n' "$cache/valkey-$NEWER_SERIES/bin/valkey-server"; }

# Every program in the base must find its libraries there and nowhere else.
check_libraries() {
    local stage=$1 loader program missing
    loader=$(find "$stage/usr/lib64" "$stage/usr/lib" -maxdepth 1 -name 'ld-linux-*' -print -quit)
    [ -n "$loader" ] || die "the base of the image holds no loader (libc6)"
    for program in "$stage"/usr/bin/* "$stage"/opt/*/bin/*; do
        [ -f "$program" ] && [ "$(head -c 4 "$program" | tail -c 3)" = ELF ] || continue
        missing=$("$loader" --inhibit-cache --library-path "$(echo "$stage"/usr/lib/*-linux-gnu)" --list "$program" 2>&1 |
            grep -E 'not found|cannot open' || true)
        [ -z "$missing" ] || die "$(basename "$program") lacks libraries in the image: $missing: add their packages to tools/build-images.sh"
    done
}

# build NAME PACKAGES PROGRAM…
build() {
    local name=$1 packages=$2; shift 2
    local context=$out/$name archive=$out/meridian-$name.tar file
    mkdir -p "$context"
    for file in "$@"; do
        [ -f "$root/target/$profile/$file" ] || die "target/$profile/$file is missing: run 'make build'"
    done
    local inputs
    inputs=$( (cd "$root/target/$profile" && sha256sum "$@"; sha256sum <"$root/deploy/images/$name.Containerfile"; base "$name" "$packages") | sha256sum | cut -d' ' -f1)
    if [ -f "$archive" ] && [ "$inputs" = "$(cat "$context/inputs" 2>/dev/null)" ]; then say "$name: unchanged ($archive)"; return; fi
    cp "$(base "$name" "$packages")" "$context/base.tar"
    for file in "$@"; do
        # The symbols for a debugger are most of a debug build; nine nodes would each carry them.
        strip --strip-debug -o "$context/$file" "$root/target/$profile/$file"
    done
    rm -f "$archive.new"
    "build_with_$builder" "localhost/meridian-$name:dev" "$root/deploy/images/$name.Containerfile" "$context" "$archive.new"
    mv "$archive.new" "$archive"
    printf '%s\n' "$inputs" >"$context/inputs"
    say "$name: $archive ($(du -h "$archive" | cut -f1))"
}

build_with_docker() {
    docker build --quiet --tag "$1" --file "$2" "$3" >/dev/null
    docker save --output "$4" "$1"
}

# With a store of its own in target/, builds of several work trees never meet, and `cargo clean` removes it.
build_with_buildah() {
    local tag=$1 file=$2 context=$3 archive=$4
    local store=(--root "$context.store" --runroot "$context.run" --storage-driver vfs)
    rm -rf "$context.store" "$context.run"
    buildah "${store[@]}" bud --quiet --isolation chroot --layers=false --timestamp 0 \
        --iidfile "$context/id" --tag "$tag" --file "$file" "$context" >/dev/null
    buildah "${store[@]}" push --quiet "$(cat "$context/id")" "docker-archive:$archive:$tag"
    rm -rf "$context.store" "$context.run"
}

trap 'die "line $LINENO failed (above)"' ERR
parse_arguments "$@"
choose_builder
[ -d "$rootfs" ] || die "$rootfs is missing: run tools/prerequisites.sh --only valkey"
[ -x "$(newer node)" ] || die "$(newer node) is missing: run tools/prerequisites.sh --only valkey"
mkdir -p "$out"
exec 9>"$out/.lock"
flock 9
jobs=()
for image in "${images[@]}"; do
    case $image in
        node) build node "$NODE_PACKAGES" meridian-node libcrdt.so & ;;
        agent) build agent "$PROGRAM_PACKAGES" meridian-agent & ;;
        hub) build hub "$PROGRAM_PACKAGES" meridian-hub meridian & ;;
    esac
    jobs+=($!)
done
for job in "${jobs[@]}"; do wait "$job"; done
