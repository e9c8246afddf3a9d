#!/usr/bin/env bash
# Runs an image as Fargate would; fails unless it captions a photograph and stops in time. Usage: caption.sh IMAGE
set -euo pipefail
cd "$(dirname "$0")/.."
name=captionist-$$
trap 'docker logs "$name"; docker rm --force --volumes "$name" >/dev/null' EXIT

docker run --detach --name "$name" --publish 127.0.0.1:8000:8000 --env CAPTIONIST_ALLOW_ANONYMOUS=true \
  --cpus 1 --memory 1g --read-only --tmpfs /tmp --cap-drop all --security-opt no-new-privileges "$1" >/dev/null
curl --silent --show-error --fail --retry 60 --retry-delay 1 --retry-all-errors --output /dev/null \
  http://127.0.0.1:8000/health/ready
caption=$(curl --silent --show-error --fail --form picture=@examples/dog.jpg http://127.0.0.1:8000/v1/captions)
echo "$caption"
grep --quiet dog <<<"$caption"
docker stop --time 30 "$name" >/dev/null
[ "$(docker inspect --format '{{.State.ExitCode}}' "$name")" = 0 ]
