#!/usr/bin/env bash
# Builds the image with buildah on a machine without Docker and without a container registry; with both,
# `docker build -f deploy/container/Dockerfile .` is all it takes. Usage: build.sh [IMAGE]. Needs from Debian:
# buildah podman runc mmdebstrap slirp4netns uidmap conmon fuse-overlayfs
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
image=${1:-captionist:latest}
export CONTAINERS_CONF=${CONTAINERS_CONF:-$here/containers.conf} BUILDAH_ISOLATION=chroot
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$here/base.sh" "$work"

# pip's settings, without those that name files on this machine: certificates and wheels are passed separately.
{
  echo '[global]'
  for key in index-url extra-index-url trusted-host timeout; do
    for value in $(python3 -m pip config get "global.$key" 2>/dev/null || true); do
      case $value in file:*) ;; *) echo "$key = $value" ;; esac
    done
  done
} >"$work/pip.conf"
ca=${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}
options=(--secret "id=pip,src=$work/pip.conf" --secret "id=ca,src=$ca")
if [ -d "${PIP_FIND_LINKS:-}" ]; then options+=(--build-context "wheels=$PIP_FIND_LINKS"); fi
revision=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)

# Set the label again: buildah 1.28 takes the last commit's from its cache, even if the argument has changed.
buildah bud --isolation chroot --format docker --pull-never --layers --build-arg "REVISION=$revision" \
  --label "org.opencontainers.image.revision=$revision" "${options[@]}" --file "$here/Dockerfile" --tag "$image" "$root"
