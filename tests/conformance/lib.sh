# What the scripts of the conformance suite agree on, above those of the test cluster. Sourced by bash; does nothing by itself.
. "$(dirname "${BASH_SOURCE[0]}")/../cluster/lib.sh"

SUITE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
GATEWAY_API=$(sed -n 's/^\s*sigs.k8s.io\/gateway-api\/conformance \(v[0-9.]*\).*/\1/p' "$SUITE/go.mod")
# Programs, CRDs, and the list of images that the suite's manifests name.
KEPT=${XDG_CACHE_HOME:-$HOME/.cache}/lateen/conformance/$GATEWAY_API

# Where Go is put that does not come from a package.
export PATH="$PATH:/usr/local/go/bin"
need_go() {
	command -v go >/dev/null ||
		fail "Go is missing" "install Go $(sed -n 's/^go //p' "$SUITE/go.mod") or newer, and put it on PATH"
}
# The directory of a module that go.mod names.
module_of() { (cd "$SUITE" && go mod download "$1" && go list -m -f '{{.Dir}}' "$1"); }
