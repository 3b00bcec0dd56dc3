#!/usr/bin/env bash
# Packs a static program as a container image, without an engine and leaving
# nothing but the archive, for `podman load` and `docker load`:
#
#   image.sh STATIC-PROGRAM VERSION ARCHIVE
#
# SOURCE_DATE_EPOCH is the only time in it.
set -euo pipefail

usage="usage: image.sh STATIC-PROGRAM VERSION ARCHIVE"
program=${1:?$usage}
version=${2:?$usage}
archive=${3:?$usage}
: "${SOURCE_DATE_EPOCH:?the time of the commit}"
# For which machines it is, the program says.
case "$(LC_ALL=C readelf --file-header "$program" | sed -n 's/^ *Machine: *//p')" in
    AArch64) arch=arm64 ;;
    *X86-64) arch=amd64 ;;
    *) echo "image: $program is for no machine that is known here" >&2 && exit 1 ;;
esac
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

buildah() {
    command buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs --log-level error "$@"
}

"$here/image-files.sh" "$program" "$work/files"
# Only Docker's format has a health check.
buildah bud --quiet --arch "$arch" --isolation chroot --format docker --layers=false --identity-label=false \
    --timestamp "$SOURCE_DATE_EPOCH" --tag "onionbraid:$version" \
    --file "$here/Containerfile" "$work/files" >/dev/null
buildah push --quiet "localhost/onionbraid:$version" "docker-archive:$work/pushed.tar"

# buildah writes the number of the container that it worked in, which differs each
# time. Without that, a configuration goes by another hash, and so does the archive.
mkdir "$work/pushed" "$work/image"
tar --extract --file "$work/pushed.tar" --directory "$work/pushed"
manifest="$work/pushed/manifest.json"
jq --compact-output --sort-keys \
    'del(.container, .container_config, .id, .docker_version, .config.Hostname, .config.Image)' \
    "$work/pushed/$(jq --raw-output '.[0].Config' "$manifest")" >"$work/config.json"
config="$(sha256sum "$work/config.json" | cut -d ' ' -f 1).json"
mv "$work/config.json" "$work/image/$config"
jq --raw-output '.[0].Layers[]' "$manifest" | while read -r layer; do
    mv "$work/pushed/$layer" "$work/image/"
done
jq --compact-output --arg config "$config" --arg tag "localhost/onionbraid:$version" \
    '[{Config: $config, RepoTags: [$tag], Layers: .[0].Layers}]' "$manifest" \
    >"$work/image/manifest.json"
(cd "$work/image" && tar --create --format ustar --sort name --mtime "@$SOURCE_DATE_EPOCH" \
    --owner 0 --group 0 --numeric-owner --mode u=rw,go=r -- *) | gzip -n9 >"$archive"
