#!/bin/sh
# Lays out what the image has beside its base: the binary, the libraries that it loads, their licences, the settings. The
# Dockerfile calls it, and so does tests/deploy/tree.py, which runs the result: so what is tested is what ships.
#
#   deploy/layout.sh BINARY LIBS DESTINATION
#
#   BINARY        target/release/pixart
#   LIBS          the folder that scripts/fetch-openvino.sh fills
#   DESTINATION   a folder that does not exist yet; it becomes the root of the tree
#
#   PIXART_RUNTIME=cpu   the CPU plugin (the default)
#   PIXART_RUNTIME=all   the plugins for Intel GPUs and NPUs too; their drivers are the base image's matter
#
# The base image brings the loader, libc, libm, libgcc_s and libstdc++; everything else is here.
set -eu

fail() {
    printf 'layout: %s\n' "$@" >&2
    exit 1
}

[ $# -eq 3 ] || fail "usage: deploy/layout.sh BINARY LIBS DESTINATION"
binary=$1 libs=$2 tree=$3
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

# What is loaded by pixart on every machine, as OpenVINO calls it: C face, core, IR reader, CPU, AUTO, and TBB below them.
needed='libopenvino_c.so.* libopenvino.so.* libopenvino_ir_frontend.so.* libopenvino_*_cpu_plugin.so
    libopenvino_auto_plugin.so libtbb.so.* libtbbmalloc.so.*'
# How TBB finds out about NUMA and hybrid cores; not every platform's wheel has it.
welcome='libtbbbind*.so.* libhwloc.so.*'
case ${PIXART_RUNTIME:-cpu} in
    cpu) ;;
    # cache.json has the GPU plugin's tuned kernels.
    all)
        needed="$needed libopenvino_intel_gpu_plugin.so libopenvino_intel_npu_plugin.so cache.json"
        welcome="$welcome libopenvino_auto_batch_plugin.so libopenvino_intel_npu_*.so*"
        ;;
    *) fail "PIXART_RUNTIME is '$PIXART_RUNTIME'; it can be 'cpu' or 'all'" ;;
esac

[ -f "$binary" ] && [ -x "$binary" ] || fail "$binary is no program: build it with 'make build'"
[ -d "$libs" ] || fail "$libs is no folder: 'make runtime' fills .openvino/libs"
[ ! -e "$tree" ] || fail "$tree is there already: remove it, or name another destination"

# copy MODE FOLDER FILE...
copy() {
    mode=$1 folder=$tree/$2
    shift 2
    mkdir -p "$folder"
    for file in "$@"; do
        # The modes are set, not taken over: what a careful umask made must still be readable by the container's user.
        { cp -- "$file" "$folder/" && chmod "$mode" "$folder/${file##*/}"; } || fail "cannot copy $file to $folder"
    done
}

umask 022
mkdir -p "$tree" || fail "cannot write $tree"
trap 'rm -rf -- "$tree"' EXIT

copy 755 usr/local/bin "$binary"
for pattern in $needed $welcome; do
    found=
    # shellcheck disable=SC2086 # it is a pattern
    for file in "$libs"/$pattern; do
        [ -f "$file" ] || continue
        found=yes
        copy 644 usr/local/lib/openvino "$file"
    done
    case " $welcome " in *" $pattern "*) continue ;; esac
    [ -n "$found" ] || fail "$libs has no $pattern:" \
        "fetch the runtime again with PIXART_RUNTIME=${PIXART_RUNTIME:-cpu} scripts/fetch-openvino.sh"
done
[ -d "$libs/licenses" ] || fail "$libs has no licenses/: fetch the runtime again with scripts/fetch-openvino.sh"
copy 644 usr/share/licenses/openvino "$libs"/licenses/*
copy 644 usr/share/licenses/pixart "$root/LICENSE" "$root/NOTICE"
copy 644 etc/pixart "$root/deploy/config.toml"
# Where a volume with converted models goes.
mkdir "$tree/models"

trap - EXIT
