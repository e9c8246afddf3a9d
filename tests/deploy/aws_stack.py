"""The service with every option on, as made by Terraform in a cloud of our own."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from tests.deploy.aws_tools import REGION, Cloud, Terraform

NAME = "captionist"
ACCOUNT = "123456789012"
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
KEYS = [{"name": "operator", "sha256": hashlib.sha256(b"key").hexdigest(), "admin": True, "rate": "60/minute"}]
# moto forgets these, or cannot tell them: a plan after an apply wants to change them again. Nothing else.
DRIFT_OF_MOTO = {
    "aws_ecs_service.this": {
        "availability_zone_rebalancing", "enable_ecs_managed_tags", "health_check_grace_period_seconds",
    },
    **{f'aws_vpc_security_group_{way}_rule.flow["{flow}"]': {"description"}
       for way in ("egress", "ingress") for flow in ("database", "endpoints", "service")},
    "aws_vpc_security_group_egress_rule.layers": {"description"},
}  # fmt: skip


def variables(certificate: str, digest: str = "0") -> dict[str, Any]:
    return {
        "image": f"{REGISTRY}/captionist@sha256:{digest * 64}",
        "collector_image": f"{REGISTRY}/captionist-collector@sha256:{'c' * 64}",
        "certificate_arn": certificate,
        "api_keys": KEYS,
        "alarm_emails": ["operator@example.org"],
        "exports": True,
        "waf": True,
        "scale_in_protection": True,
        "protect": False,  # so that it can be destroyed in one go
        "settings": {"CAPTIONIST_KEEP_PICTURES": "true"},
    }


@dataclass(frozen=True)
class Stack:
    """What was made, and where."""

    cloud: Cloud
    terraform: Terraform
    certificate: str

    def ask(self, service: str, operation: str, **parameters: Any) -> Any:
        said = self.cloud.ask(service, operation, **parameters)
        assert "Error" not in said, said
        return said

    def task(self) -> dict[str, Any]:
        """The service's task definition."""
        (service,) = self.ask("ecs", "describe_services", cluster=NAME, services=[NAME])["services"]
        described = self.ask("ecs", "describe_task_definition", taskDefinition=service["taskDefinition"])
        definition: dict[str, Any] = described["taskDefinition"]
        return definition

    def container(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = next(part for part in self.task()["containerDefinitions"] if part["name"] == name)
        return found

    def output(self, name: str) -> Any:
        return json.loads(self.terraform("output", "-json", name).stdout)
