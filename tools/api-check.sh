#!/usr/bin/env bash
# Asks a hub of its own everything that its OpenAPI document allows, and much that it does not, and fails where an answer is
# not one that the document describes. Needs python3 with venv; the checker is installed once, of one version.
set -euo pipefail

cd "$(dirname "$0")/.."
readonly version=4.32.5
cache="${MERIDIAN_CACHE:-$HOME/.cache/meridian}/tools/schemathesis-$version"
if [ ! -x "$cache/bin/schemathesis" ]; then
    echo "==> installing schemathesis $version, once"
    rm -rf "$cache"
    python3 -m venv "$cache"
    "$cache/bin/pip" install --quiet "schemathesis==$version"
fi

cargo build --quiet -p meridian-hub --bin meridian-hub
work=$(mktemp -d)
hub=
finish() {
    [ -z "$hub" ] || kill "$hub" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
read -r web link < <(python3 -c '
import socket
taken = [socket.socket() for _ in range(2)]
for one in taken:
    one.bind(("127.0.0.1", 0))
print(*[one.getsockname()[1] for one in taken])')
target/debug/meridian-hub serve --data-dir "$work/data" --web-listen "127.0.0.1:$web" --link-listen "127.0.0.1:$link" \
    --advertise-link "localhost:$link" 2>"$work/log" &
hub=$!
ready=
for _ in $(seq 300); do
    if curl --silent --fail --cacert "$work/data/ca/root.crt" "https://localhost:$web/readyz" >/dev/null 2>&1; then
        ready=1
        break
    fi
    kill -0 "$hub" || break
    sleep 0.1
done
[ -n "$ready" ] || { echo "api-check: the hub did not become ready:" >&2; cat "$work/log" >&2; exit 1; }

# A watch has no end, and is left to the tests of the hub. Whoever deletes tokens of the API may delete its own.
python3 - deploy/openapi.json "$work/openapi.json" <<'EDIT'
import json, sys
document = json.load(open(sys.argv[1]))
endless = {"watch", "resourceVersion", "Last-Event-ID"}
for methods in document["paths"].values():
    for operation in methods.values():
        given = operation.get("parameters", [])
        operation["parameters"] = [one for one in given if one["name"] not in endless]
json.dump(document, open(sys.argv[2], "w"))
EDIT
# What the checker keeps of its runs is nothing to keep here.
cd "$work"
"$cache/bin/schemathesis" run "$work/openapi.json" --url "https://localhost:$web" \
    --tls-verify "$work/data/ca/root.crt" \
    --header "Authorization: Bearer $(cat "$work/data/admin-token")" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance \
    --exclude-operation-id deleteApiToken \
    --phases examples,coverage,fuzzing --max-examples "${EXAMPLES:-50}" --request-timeout 10 \
    --continue-on-failure --seed 1 "$@"
