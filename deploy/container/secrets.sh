#!/bin/sh
# Prints what compose.yaml needs in deploy/container/.env: generated anew each time, and not to be committed.
set -eu
key=$(openssl rand -hex 32)
echo "# The operator's API key, for clients and for the page. Only its SHA-256 reaches the service."
echo "CAPTIONIST_ADMIN_KEY=$key"
echo "CAPTIONIST_ADMIN_KEY_SHA256=$(printf %s "$key" | openssl dgst -sha256 -r | cut -d ' ' -f 1)"
echo "CAPTIONIST_SECRET=$(openssl rand -hex 32)"
echo "POSTGRES_PASSWORD=$(openssl rand -hex 24)"
echo "GRAFANA_PASSWORD=$(openssl rand -hex 12)"
