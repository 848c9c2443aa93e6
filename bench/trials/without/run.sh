#!/bin/sh
# What each optimisation is worth today: ztunnel with it, beside the same sources without it (NAME.patch), interleaved in one
# run, with a flame graph of both drawn under the same load into docs/performance/flames/. Needs root (namespaces) and
# perf; `make bench-quick` must have been built once. About four minutes for the first name and two for each further.
#
#   bench/trials/without/run.sh [aes128 kept unpaced]
set -eu
cd "$(dirname "$0")/../../.."
root=$PWD
work=$root/target/without
with=$root/target/quick/ztunnel
load=cross.tcp1.up
for name in ${*:-aes128 kept unpaced}; do
	rm -rf "$work/src" && mkdir -p "$work/src"
	git archive HEAD | tar x -C "$work/src"
	patch -s -p1 -d "$work/src" <"bench/trials/without/$name.patch"
	(cd "$work/src" && cargo build -q --locked --profile quick -p lateen-ztunnel --target-dir "$work/build")
	target/debug/lateen-bench run --ours "$with" --subject "without=$work/build/quick/ztunnel" --load target/quick/lateen-load \
		--subjects-only --only "$load" --rounds "${ROUNDS:-6}" --seconds 1 --profile --out "$work/$name"
	cp "$work/$name/flames/$load.without.svg" "docs/performance/flames/$name-without.svg"
	cp "$work/$name/flames/$load.svg" "docs/performance/flames/$name-with.svg"
done
