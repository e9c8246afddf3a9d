#!/opt/captionist/bin/python -IS
"""Ends with 0 if the service of this container is ready, with 1 if not. urllib would ask a proxy."""

import http.client
import os
import sys

try:
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("CAPTIONIST_PORT") or 8000), timeout=4)
    connection.request("GET", "/health/ready")
    status = connection.getresponse().status
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"not ready: {error}")
if status != 200:
    sys.exit(f"not ready: status {status}")
