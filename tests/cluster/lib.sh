# What the scripts of the test cluster agree on: places, names, addresses. Sourced by bash; does nothing by itself.
#
#   the machine ── lc-host 10.229.0.1 ─┐
#                                      ├── bridge in the namespace lc-wire ── every packet between nodes passes here
#   lc-control  ── eth0 10.229.0.10  ──┤   etcd, API server, controller manager, scheduler
#   lc-node-1   ── eth0 10.229.0.11  ──┤   containerd, kubelet, kube-proxy; pods 10.230.1.0/24
#   lc-node-2   ── eth0 10.229.0.12  ──┘   the same; pods 10.230.2.0/24
#
# What `balancer` gives to services of type LoadBalancer, 10.232.0.0/16, the machine reaches through node-1.
#
# Everything that runs lives in a PID namespace below one of these, and everything that is written lies in $CLUSTER.

set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
VERSION=v1.36.1 # As in go.mod.
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/lateen/cluster/$VERSION
BIN=$CACHE/bin
CLUSTER=${LATEEN_CLUSTER:-${XDG_STATE_HOME:-$HOME/.local/state}/lateen/cluster}
MARK=$CLUSTER/.made-by-cluster-up
PKI=$CLUSTER/pki
KUBECONFIG_ADMIN=$CLUSTER/kubeconfig

NODES=(node-1 node-2)
WIRE=lc-wire
LINK=lc-host
GROUP=lateen-cluster
HOST_IP=10.229.0.1
CONTROL_IP=10.229.0.10
SERVICES=10.231.0.0/16
API_VIP=10.231.0.1
DNS_VIP=10.231.0.10
PODS=10.230.0.0/16
BALANCED=10.232.0.0/16

say() { echo "== $*"; }
fail() {
	echo "$(basename "$0"): $1; $2" >&2
	exit 1
}

number_of() { echo "${1#node-}"; }
address_of() {
	case $1 in
	control) echo "$CONTROL_IP" ;;
	*) echo "10.229.0.$((10 + $(number_of "$1")))" ;;
	esac
}
pods_of() { echo "10.230.$(number_of "$1").0/24"; }
netns_of() { echo "lc-$1"; }

# until_true SECONDS WHAT COMMAND...: asks every half second, and says what did not come true.
until_true() {
	local seconds=$1 what=$2
	shift 2
	local end=$((SECONDS + seconds))
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || fail "$what did not come true within $seconds s" "the logs are in $CLUSTER/log"
		sleep 0.5
	done
}

need_root() {
	[ "$(id -u)" -eq 0 ] || fail "the test cluster makes network namespaces and mounts" "run it as root"
}

# start NAME SCRIPT: a machine of the cluster, apart from this terminal, so that it outlives it.
start() { setsid -f "$HERE/enter" "$1" "$2" >>"$CLUSTER/log/$1.log" 2>&1 </dev/null; }

# Gives every running node the image files it does not have yet.
import_everywhere() {
	local node
	for node in "${NODES[@]}"; do
		nsenter --target "$(cat "$CLUSTER/$node.pid")" --mount -- "$HERE/import"
	done
}

kubectl_admin() { "$BIN/kubectl" --kubeconfig "$KUBECONFIG_ADMIN" "$@"; }
