#!/bin/sh
# Direct, copied, spliced and redirected by sockmap, three times in turn, in a network namespace of its own. Needs root and a C
# compiler; ends by itself in about a minute and a half, with all it started.
set -eu
[ "${1-}" = inside ] || exec unshare --net --pid --fork --kill-child "$0" inside
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
cc -O2 -Wall -o "$built/trial" "$(dirname "$0")/trial.c"
ip link set lo up
sysctl -qw net.ipv4.tcp_congestion_control=reno
"$built/trial" serve 9000 &
port=9001
for how in copy splice sockmap; do
	"$built/trial" relay $how $port 9000 &
	port=$((port + 1))
done
for round in 1 2 3; do
	port=9000
	for how in direct copy splice sockmap; do
		for load in "echo 1" "echo 64" "sink 1"; do
			printf '%-8s %-8s ' $how "$load"
			# shellcheck disable=SC2086
			"$built/trial" load $port $load 2
		done
		port=$((port + 1))
	done
done
