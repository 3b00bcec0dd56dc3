#!/usr/bin/env bash
# Builds the program as it is released, the same bytes from the same commit in
# whatever directory:
#
#   build-release.sh static FILE     needs nothing of the system that it runs on
#   build-release.sh dynamic FILE    uses the C library there, as packages do
#
# The two differ in the last step alone: what was compiled for one serves the other.
#
# TARGET, if it is set, is what Rust calls the machines that it is for, such as
# aarch64-unknown-linux-gnu: Debian's gcc for those compiles and links then.
set -euo pipefail

usage="usage: build-release.sh static|dynamic FILE"
kind=${1:?$usage}
file=$(realpath --canonicalize-missing "${2:?$usage}")
case "$kind" in
    static) link=(-Ctarget-feature=+crt-static) ;;
    dynamic) link=() ;;
    *) echo "$usage" >&2 && exit 2 ;;
esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."
: "${SOURCE_DATE_EPOCH:?the time of the commit}"
cargo=${CARGO:-cargo}
host=$(rustc -vV | sed -n 's/^host: //p')
target=${TARGET:-$host}
target_dir=$("$cargo" metadata --no-deps --format-version 1 --locked | jq -r .target_directory)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$(rustc --print sysroot)

# No path of this machine gets into the program, neither of Rust's sources nor of
# those in C. Of the mappings that fit, a compiler takes the last.
rust=() c=()
for map in "$cargo_home=/cargo" "$sysroot=/rust" "$PWD=/onionbraid" "$target_dir=/onionbraid/target"; do
    rust+=("--remap-path-prefix=$map")
    c+=("-ffile-prefix-map=$map")
done
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && echo "${rust[*]}")
CFLAGS=$(printf '%q ' "${c[@]}")
export CARGO_ENCODED_RUSTFLAGS CFLAGS CC_SHELL_ESCAPED_FLAGS=1 SOURCE_DATE_EPOCH
unset RUSTFLAGS

if [ "$target" != "$host" ]; then
    tools=${target/-unknown-/-}
    [ -d "$sysroot/lib/rustlib/$target" ] || rustup target add "$target"
    linker="CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")_LINKER"
    export "$linker=$tools-gcc" "CC_${target//-/_}=$tools-gcc" "AR_${target//-/_}=$tools-ar"
fi

# A target that is named keeps the flags from programs that run during the build.
"$cargo" rustc --release --locked --target "$target" --bin onionbraid -- "${link[@]}"
install -D -m 755 "$target_dir/$target/release/onionbraid" "$file"
