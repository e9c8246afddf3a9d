#!/usr/bin/env bash
# Commits a local stand-in for docker.io/library/python:3.11-slim-bookworm (Debian's Python 3.11), for
# machines that reach no container registry. Usage: base.sh [WORKDIR]. Needs from Debian:
# buildah podman runc mmdebstrap slirp4netns uidmap conmon fuse-overlayfs
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=${1:-$(mktemp -d)}
mkdir -p "$work"
export CONTAINERS_CONF=${CONTAINERS_CONF:-$here/containers.conf} BUILDAH_ISOLATION=chroot
buildah inspect --type image docker.io/library/python:3.11-slim-bookworm >/dev/null 2>&1 && exit 0
[ -f "$work/base.tar" ] || mmdebstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates bookworm "$work/base.tar"
c=$(buildah from scratch)
buildah add -q "$c" "$work/base.tar" /
buildah run "$c" -- sh -c 'ln -sf /usr/bin/python3 /usr/local/bin/python; ln -sf /usr/bin/python3 /usr/local/bin/python3; rm -f /usr/lib/python3*/EXTERNALLY-MANAGED'
buildah config --env PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin --cmd '["python3"]' "$c"
buildah commit --rm -q "$c" docker.io/library/python:3.11-slim-bookworm
