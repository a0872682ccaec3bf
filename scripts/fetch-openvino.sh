#!/bin/sh
# Fetches the OpenVINO runtime that openvino-runtime.txt pins and lays its libraries into .openvino/libs, where pixart
# finds them. Nothing is installed: remove .openvino and it is gone. Run again, it does nothing until the pin changes.
#
#   PIXART_RUNTIME=all   CPU, GPU, NPU and AUTO (the default; 149 MB on x86_64)
#   PIXART_RUNTIME=cpu   CPU and AUTO only (88 MB), for images that will meet no other device
#   PYTHON=python3.12    the Python whose pip fetches; any Python 3 with pip 20 or later gets the same wheel
set -eu

fail() {
    printf 'fetch-openvino: %s\n' "$@" >&2
    exit 1
}

# The way out for every machine that the wheel does not serve.
elsewhere='install OpenVINO yourself and put the folder of its libraries into PIXART__OPENVINO__LIBRARY'

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
pin=$root/openvino-runtime.txt
target=$root/.openvino
python=${PYTHON:-python3}

devices=${PIXART_RUNTIME:-all}
case $devices in
    all | cpu) ;;
    *) fail "PIXART_RUNTIME is '$devices'; it can be 'all' or 'cpu'" ;;
esac

# platform: what the wheel for this machine is called; libc: the oldest GNU C library that it runs on.
case $(uname -s)-$(uname -m) in
    Linux-x86_64 | Linux-amd64) platform=manylinux_2_28_x86_64 libc=2.28 ;;
    Linux-aarch64 | Linux-arm64) platform=manylinux_2_35_aarch64 libc=2.35 ;;
    *) fail "no OpenVINO wheel is pinned for $(uname -s) on $(uname -m);" "$elsewhere" ;;
esac
found=$(getconf GNU_LIBC_VERSION 2>/dev/null) || found=none
found=${found#glibc }
if ! printf '%s\n' "$found" | awk -F. -v least="$libc" \
    '{ split(least, l, "."); exit !($1 ~ /^[0-9]+$/ && ($1 > l[1] || $1 == l[1] && $2 + 0 >= l[2] + 0)) }'; then
    fail "OpenVINO's wheel needs the GNU C library $libc or later, and this system has $found;" "$elsewhere"
fi

[ -r "$pin" ] || fail "$pin is missing: get it back with 'git checkout -- openvino-runtime.txt'"

# What is laid down carries the text of all that decided it.
stamp=$(printf '%s %s\n' "$platform" "$devices"; grep -v '^#' "$pin")
if [ -f "$target/libs/.stamp" ] && [ "$(cat "$target/libs/.stamp")" = "$stamp" ]; then
    exit 0
fi

command -v "$python" >/dev/null 2>&1 ||
    fail "'$python' is not there: install Python 3 with pip (Debian, Ubuntu: apt-get install python3-pip)," "or name another one in PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 6))' 2>/dev/null ||
    fail "'$python' is too old: Python 3.6 or later is needed; name another one in PYTHON"
"$python" -m pip --version >/dev/null 2>&1 ||
    fail "'$python' has no pip: install it (Debian, Ubuntu: apt-get install python3-pip; elsewhere: $python -m ensurepip)," "or name another Python in PYTHON"

mkdir -p "$target" || fail "cannot write $target"
work=$(mktemp -d "$target/fetch.XXXXXX") || fail "cannot write $target"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "Fetching the OpenVINO runtime ($platform) into .openvino/libs ..." >&2
# One fixed wheel for each platform, whatever Python asks: only its libraries count. 'pip download' installs nothing, so
# a system Python that may not be written to will do. TMPDIR keeps the wheel off a small /tmp.
if ! TMPDIR=$work "$python" -m pip --disable-pip-version-check --quiet download \
    --no-deps --only-binary=:all: --implementation cp --python-version 3.12 --abi cp312 --platform "$platform" \
    --require-hashes --requirement "$pin" --dest "$work/wheel" 2>"$work/log"; then
    cat "$work/log" >&2
    case $(cat "$work/log") in
        *"DO NOT MATCH"*)
            fail "the wheel that came is not the one that openvino-runtime.txt pins: do not use it." \
                "Try again; if it stays so, the index or a proxy before it has changed the file." ;;
        *"No space left"*)
            fail "the disk is full: .openvino needs 400 MB while it unpacks" ;;
        *"No matching distribution"* | *"Could not find a version"* | *onnection* | *"Network is unreachable"* | *imed\ out*)
            fail "pip could not fetch the wheel. Without a network: run this where there is one and copy .openvino/libs here." \
                "With a package index of your own: PIP_INDEX_URL names it. Or $elsewhere." ;;
        *) fail "pip failed, see above; $elsewhere" ;;
    esac
fi

"$python" - "$work" "$target/libs" "$devices" "$stamp" <<'PYTHON' || fail "the runtime could not be unpacked into $target, see above"
import glob, os, posixpath, shutil, sys, zipfile

work, libs, devices, stamp = sys.argv[1:]
# Readers of other model formats, and what serves only those who build against TBB: pixart reads IR.
unused = ["_%s_frontend" % name for name in ("gguf", "jax", "onnx", "paddle", "pytorch", "tensorflow", "tensorflow_lite")]
unused += ["tbbmalloc_proxy", "tbb.pc"]
if devices == "cpu":
    # cache.json holds the GPU plugin's tuned kernels.
    unused += ["intel_gpu_plugin", "intel_npu_plugin", "cache.json"]

unpacked = os.path.join(work, "libs")
os.makedirs(os.path.join(unpacked, "licenses"))
(wheel,) = glob.glob(os.path.join(work, "wheel", "*.whl"))
with zipfile.ZipFile(wheel) as archive:
    for member in archive.infolist():
        folder, name = posixpath.split(member.filename)
        if folder == "openvino/libs" and not any(part in name for part in unused):
            destination = os.path.join(unpacked, name)
        elif ".dist-info/licenses" in folder and name:
            destination = os.path.join(unpacked, "licenses", name)
        else:
            continue
        with archive.open(member) as source, open(destination, "wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)

for needed in ("libopenvino_c.so", "libopenvino.so", "libopenvino_ir_frontend.so", "_cpu_plugin.so"):
    if not any(needed in name for name in os.listdir(unpacked)):
        sys.exit("fetch-openvino: the wheel has no openvino/libs/*%s*: its layout has changed" % needed)
with open(os.path.join(unpacked, ".stamp"), "w") as file:
    file.write(stamp + "\n")

# What stood there goes out of the way in one rename and the new one in with another; who is using the old files keeps them.
if os.path.isdir(libs):
    os.rename(libs, os.path.join(work, "old"))
try:
    os.rename(unpacked, libs)
except OSError:
    # Another fetch was quicker.
    with open(os.path.join(libs, ".stamp")) as file:
        if file.read() != stamp + "\n":
            raise
PYTHON

echo "OpenVINO $(sed -n 's/^openvino==\([^ ]*\).*/\1/p' "$pin") is in .openvino/libs." >&2
