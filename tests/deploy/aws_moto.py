"""A cloud on loopback: moto's server, and boto3 to look into it. A program, run by aws_tools.py in an environment with
moto: prints the server's address; then answers each line {service, operation, parameters} with a line."""

import importlib
import json
import os
import sys
from typing import Any


def start() -> str:
    """Start the server. Returns its address."""
    add_what_moto_lacks()
    server = importlib.import_module("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


def add_what_moto_lacks() -> None:
    """Tags of a scaling target, for which Terraform would wait, and the alert manager of a Prometheus workspace."""
    scaling = importlib.import_module("moto.applicationautoscaling.responses").ApplicationAutoScalingResponse
    register = scaling.register_scalable_target
    tags: dict[str, dict[str, str]] = {}

    def register_with_tags(self: Any) -> str:
        said: str = register(self)
        tags.setdefault(json.loads(said)["ScalableTargetARN"], self._get_param("Tags") or {})
        return said

    scaling.register_scalable_target = register_with_tags
    scaling.list_tags_for_resource = lambda self: json.dumps({"Tags": tags[self._get_param("ResourceARN")]})

    definitions: dict[str, str] = {}

    def alert_manager(request: Any, url: str, _: Any) -> tuple[int, dict[str, str], str]:
        workspace = url.split("/workspaces/")[1].split("/")[0]
        if request.method in ("POST", "PUT"):
            definitions[workspace] = json.loads(request.data)["data"]
            return 202, {}, json.dumps({"status": {"statusCode": "CREATING"}})
        if request.method == "DELETE":
            return 202, {}, definitions.pop(workspace) and ""
        if workspace not in definitions:
            return 404, {"x-amzn-ErrorType": "ResourceNotFoundException"}, json.dumps({"message": "none"})
        described = {"data": definitions[workspace], "status": {"statusCode": "ACTIVE"}}
        return 200, {}, json.dumps({"alertManagerDefinition": {**described, "createdAt": 0, "modifiedAt": 0}})

    paths = importlib.import_module("moto.amp.urls").url_paths
    paths["{0}/workspaces/(?P<workspace_id>[^/]+)/alertmanager/definition$"] = alert_manager


def answer(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
    """What boto3 says, all pages of it."""
    if client.can_paginate(operation):
        return client.get_paginator(operation).paginate(**parameters).build_full_result()
    return getattr(client, operation)(**parameters)


def as_text(value: Any) -> str:
    """What JSON has no way to write: bytes, and times."""
    return value.decode() if isinstance(value, bytes) else str(value)


def main() -> None:
    address = start()
    session = importlib.import_module("boto3").Session()
    sys.stdout.write(f"{address}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        question = json.loads(line)
        client = session.client(question["service"], endpoint_url=address, region_name=os.environ["AWS_REGION"])
        try:
            said = answer(client, question["operation"], question["parameters"])
        except importlib.import_module("botocore.exceptions").ClientError as error:
            said = {"Error": str(error)}
        sys.stdout.write(json.dumps(said, default=as_text) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
