#!/bin/sh
# Fetches what libaasist is built with into a folder, without root and without changing the machine:
# headers and small libraries from Debian's packages, ONNX Runtime and libsndfile from their Python
# wheels (the ones that Python uses, so that both languages compute with the same libraries).
#
#     sh fetch_deps.sh DEST [amd64|arm64]
#
# Where the libraries are installed on the system, this script is not needed: CMake finds them.
# Environment: PYTHON (python3 with pip), ONNXRUNTIME_VERSION, SOUNDFILE_VERSION.
# Exit code: 0 good, 3 the machine lacks something, which the last line names.
set -eu

DEST=${1:?usage: fetch_deps.sh DEST [amd64|arm64]}
ARCH=${2:-$(dpkg --print-architecture 2>/dev/null || echo unknown)}
PYTHON=${PYTHON:-python3}
ONNXRUNTIME_VERSION=${ONNXRUNTIME_VERSION:-1.32.0}
SOUNDFILE_VERSION=${SOUNDFILE_VERSION:-0.14.0}
# Debian 12 has neither ONNX Runtime nor miniaudio; its next release has. Only headers are taken: ONNX Runtime's C
# API grows at its end alone, so headers of an older version fit a newer library, and miniaudio is a header.
HEADERS_RELEASE=trixie

lacks() {
  echo "fetch_deps: $1" >&2
  exit 3
}

case $ARCH in
  amd64) triplet=x86_64-linux-gnu machine=x86_64 ;;
  arm64) triplet=aarch64-linux-gnu machine=aarch64 ;;
  *) lacks "architecture '$ARCH' is neither amd64 nor arm64; install the libraries named in docs/cpp.md" ;;
esac
for tool in apt-get dpkg-deb; do
  command -v $tool >/dev/null ||
    lacks "$tool is missing: this is no Debian; install the libraries named in docs/cpp.md"
done
"$PYTHON" -m pip --version >/dev/null 2>&1 || lacks "$PYTHON has no pip; name another with PYTHON="

mkdir -p "$DEST"
DEST=$(cd "$DEST" && pwd)
stamp="onnxruntime $ONNXRUNTIME_VERSION, soundfile $SOUNDFILE_VERSION, $ARCH, layout 2"
[ "$(cat "$DEST/ready" 2>/dev/null || true)" = "$stamp" ] && exit 0
rm -rf "$DEST/ready" "$DEST/include" "$DEST/lib" "$DEST/work"
mkdir -p "$DEST/include" "$DEST/lib" "$DEST/work/apt/lists/partial" "$DEST/work/apt/cache/archives/partial" \
  "$DEST/work/debs" "$DEST/work/root" "$DEST/work/wheels"
work=$DEST/work

# A private apt: the machine's own mirror, its own release and the one that has the headers.
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
# shellcheck disable=SC2016  # $(SITE) and the like are apt's own
mirror=$(apt-get indextargets --format '$(RELEASE) $(SITE)' 'Created-By: Packages' 2>/dev/null |
  awk -v release="$release" '$1 == release { print $2; exit }')
[ -n "$mirror" ] || lacks "apt names no mirror of '$release'; install the libraries named in docs/cpp.md"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
for name in $(printf '%s\n' "$release" $HEADERS_RELEASE | sort -u); do
  echo "deb [signed-by=$keyring] $mirror $name main"
done >"$work/apt/sources.list"
: >"$work/apt/status"
cat >"$work/apt/apt.conf" <<EOF
APT::Architecture "$ARCH";
APT::Architectures { "$ARCH"; };
Dir::Etc::sourcelist "$work/apt/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$work/apt/lists";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt/cache";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::Retries "2";
EOF
export APT_CONFIG="$work/apt/apt.conf"
apt-get update -qq >"$work/apt.log" 2>&1 || lacks "apt-get update failed: $(tail -n 1 "$work/apt.log")"
(cd "$work/debs" && apt-get download -qq libsndfile1-dev libsoxr-dev libsoxr0 libmd-dev libmd0 \
  "nlohmann-json3-dev" "doctest-dev" "libonnxruntime-dev/$HEADERS_RELEASE" "libminiaudio-dev/$HEADERS_RELEASE") >>"$work/apt.log" 2>&1 ||
  lacks "Debian's packages could not be fetched: $(tail -n 1 "$work/apt.log")"
for deb in "$work"/debs/*.deb; do
  dpkg-deb -x "$deb" "$work/root"
done

cp -R "$work/root/usr/include/nlohmann" "$work/root/usr/include/doctest" "$DEST/include/"
cp "$work/root/usr/include/miniaudio.h" "$work/root/usr/include/sndfile.h" "$work/root/usr/include/soxr.h" "$work/root/usr/include/sha2.h" "$DEST/include/"
cp "$(find "$work/root/usr/include" -name onnxruntime_c_api.h | head -n 1)" "$DEST/include/"
cp -P "$work/root/usr/lib/$triplet"/libsoxr.so* "$work/root/usr/lib/$triplet/libmd.so" "$DEST/lib/"
find "$work/root" -name 'libmd.so.0*' -exec cp -P {} "$DEST/lib/" \;
ln -sf libmd.so.0 "$DEST/lib/libmd.so"

# Wheels of any Python fit: only the libraries inside are used, which are plain C.
fetch_wheel() {
  "$PYTHON" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --no-cache-dir \
    --python-version 3.12 --implementation cp --abi cp312 --abi none --abi abi3 \
    --platform "manylinux_2_28_$machine" --platform "manylinux_2_27_$machine" \
    --platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine" \
    -d "$work/wheels" "$1" >"$work/pip.log" 2>&1 ||
    lacks "$1 could not be fetched with pip: $(grep -i error "$work/pip.log" | head -n 1)"
}
fetch_wheel "onnxruntime==$ONNXRUNTIME_VERSION"
fetch_wheel "soundfile==$SOUNDFILE_VERSION"
"$PYTHON" - "$work/wheels" "$DEST/lib" <<'EOF'
import fnmatch, pathlib, sys, zipfile

wheels, lib = map(pathlib.Path, sys.argv[1:])
wanted = {"onnxruntime/capi/libonnxruntime.so.*": "libonnxruntime.so.1", "_soundfile_data/libsndfile*.so": "libsndfile.so.1"}
for wheel in wheels.glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            for pattern, target in wanted.items():
                if fnmatch.fnmatch(name, pattern):
                    (lib / target).write_bytes(archive.read(name))
for target in wanted.values():
    if not (lib / target).exists():
        sys.exit(f"fetch_deps: no wheel held {target}")
    link = lib / target.removesuffix(".1")
    link.unlink(missing_ok=True)
    link.symlink_to(target)
EOF
rm -rf "$work"
echo "$stamp" >"$DEST/ready"
