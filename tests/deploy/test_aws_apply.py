"""deploy/aws made in a cloud (moto's, on loopback) with every option on, and read back: what would really be there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from captionist.server.settings import load_settings
from tests.deploy.aws_stack import ACCOUNT, DRIFT_OF_MOTO, NAME, Stack, variables
from tests.deploy.aws_tools import AWS, REGION, Terraform, cloud

pytestmark = pytest.mark.deploy


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with cloud() as moto:
        asked = moto.ask("acm", "request_certificate", DomainName="captions.example.org", ValidationMethod="DNS")
        terraform = Terraform(tmp_path_factory.mktemp("stack"), AWS_ENDPOINT_URL=moto.address)
        terraform.apply(**variables(asked["CertificateArn"]))
        yield Stack(moto, terraform, asked["CertificateArn"])


def test_every_container_has_no_more_rights_than_it_needs(stack: Stack) -> None:
    for container in stack.task()["containerDefinitions"]:
        assert container["readonlyRootFilesystem"] is True
        assert container["user"] == "10001:10001"
        assert container["linuxParameters"]["capabilities"]["drop"] == ["ALL"]
        assert container["logConfiguration"]["options"]["awslogs-group"] == stack.output("log_group")
        assert container["essential"] is (container["name"] == "captionist")


def test_the_service_accepts_its_settings(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    container = stack.container("captionist")
    given = {pair["name"]: pair["value"] for pair in container["environment"]}
    for pair in container["secrets"]:
        arn, *_, version = re.split(r":::", pair["valueFrom"])
        kept = stack.ask("secretsmanager", "get_secret_value", SecretId=arn, VersionId=version)
        given[pair["name"]] = kept["SecretString"]
    password = given.pop("PGPASSWORD")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(host="0.0.0.0")
    assert [(key.name, key.admin, key.rate) for key in settings.api_keys] == [("operator", True, "60/minute")]
    assert settings.secret is not None
    assert len(settings.secret.get_secret_value()) == len(password) == 64
    assert settings.engines == 1
    assert settings.keep_pictures
    assert container["stopTimeout"] >= settings.grace_period + 5
    database = stack.ask("rds", "describe_db_instances")["DBInstances"][0]
    endpoint = f"{database['Endpoint']['Address']}:{database['Endpoint']['Port']}"
    assert settings.sqlalchemy_url == f"postgresql+psycopg://captionist@{endpoint}/captionist?sslmode=require"


def test_no_secret_is_in_the_state(stack: Stack) -> None:
    for pair in stack.container("captionist")["secrets"]:
        if pair["name"] == "CAPTIONIST_API_KEYS":  # only digests
            continue
        kept = stack.ask("secretsmanager", "get_secret_value", SecretId=pair["valueFrom"].split(":::")[0])
        assert kept["SecretString"] not in stack.terraform.state


def test_tasks_stand_in_private_subnets_with_no_way_out(stack: Stack) -> None:
    (service,) = stack.ask("ecs", "describe_services", cluster=NAME, services=[NAME])["services"]
    network = service["networkConfiguration"]["awsvpcConfiguration"]
    assert network["assignPublicIp"] == "DISABLED"
    subnets = stack.ask("ec2", "describe_subnets", SubnetIds=network["subnets"])["Subnets"]
    assert len({subnet["AvailabilityZone"] for subnet in subnets}) == 2
    for subnet in subnets:
        assert not subnet["MapPublicIpOnLaunch"]
        chosen = [{"Name": "association.subnet-id", "Values": [subnet["SubnetId"]]}]
        (table,) = stack.ask("ec2", "describe_route_tables", Filters=chosen)["RouteTables"]
        assert {route.get("GatewayId", "")[:4] for route in table["Routes"]} <= {"loca", "vpce"}
    assert stack.ask("ec2", "describe_nat_gateways")["NatGateways"] == []
    endpoints = stack.ask("ec2", "describe_vpc_endpoints")["VpcEndpoints"]
    assert {endpoint["ServiceName"].removeprefix(f"com.amazonaws.{REGION}.") for endpoint in endpoints} == {
        "ecr.api", "ecr.dkr", "logs", "secretsmanager", "aps-workspaces", "s3",
    }  # fmt: skip


def test_each_may_talk_only_to_whom_it_must(stack: Stack) -> None:
    groups = stack.ask("ec2", "describe_security_groups")["SecurityGroups"]
    names = {group["GroupId"]: group["GroupName"] for group in groups}
    ours = {key: name.removeprefix(f"{NAME}-") for key, name in names.items() if name.startswith(f"{NAME}-")}
    rules = stack.ask("ec2", "describe_security_group_rules")["SecurityGroupRules"]
    seen = {
        (
            "to" if rule["IsEgress"] else "from",
            ours[rule["GroupId"]],
            ours.get(rule.get("ReferencedGroupInfo", {}).get("GroupId"), rule.get("CidrIpv4", "s3")),
            rule["FromPort"],
        )
        for rule in rules
        if rule["GroupId"] in ours
    }
    assert seen == {
        ("from", "load-balancer", "0.0.0.0/0", 80),
        ("from", "load-balancer", "0.0.0.0/0", 443),
        ("to", "load-balancer", "tasks", 8000),
        ("from", "tasks", "load-balancer", 8000),
        ("to", "tasks", "endpoints", 443),
        ("from", "endpoints", "tasks", 443),
        ("to", "tasks", "database", 5432),
        ("from", "database", "tasks", 5432),
        ("to", "tasks", "s3", 443),
    }


def test_the_load_balancer_speaks_tls_and_drains(stack: Stack) -> None:
    (balancer,) = stack.ask("elbv2", "describe_load_balancers")["LoadBalancers"]
    listeners = stack.ask("elbv2", "describe_listeners", LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    https, http = (next(one for one in listeners if one["Port"] == port) for port in (443, 80))
    assert https["Certificates"][0]["CertificateArn"] == stack.certificate
    assert http["DefaultActions"][0]["RedirectConfig"]["Protocol"] == "HTTPS"
    (made,) = [one for one in json.loads(stack.terraform.state)["resources"] if one["type"] == "aws_lb"]
    assert {"aws_route.internet", "aws_route_table_association.public"} <= set(made["instances"][0]["dependencies"])
    (group,) = stack.ask("elbv2", "describe_target_groups")["TargetGroups"]
    assert (group["TargetType"], group["HealthCheckPath"]) == ("ip", "/health/ready")
    said = stack.ask("elbv2", "describe_target_group_attributes", TargetGroupArn=group["TargetGroupArn"])
    attributes = {pair["Key"]: pair["Value"] for pair in said["Attributes"]}
    assert int(attributes["deregistration_delay.timeout_seconds"]) == stack.container("captionist")["stopTimeout"]


def test_roles_may_do_no_more_than_they_must(stack: Stack) -> None:
    allowed: dict[str, dict[str, set[str]]] = {}
    for role in ("execution", "task", "flow-log"):
        name = f"{NAME}-{REGION}-{role}"
        assert stack.ask("iam", "list_attached_role_policies", RoleName=name)["AttachedPolicies"] == []
        for policy in stack.ask("iam", "list_role_policies", RoleName=name)["PolicyNames"]:
            said = stack.ask("iam", "get_role_policy", RoleName=name, PolicyName=policy)
            for statement in said["PolicyDocument"]["Statement"]:
                for action in as_list(statement["Action"]):
                    allowed.setdefault(role, {})[action] = set(as_list(statement["Resource"]))
    here = f"{REGION}:{ACCOUNT}"
    pull = {f"arn:aws:ecr:{here}:repository/captionist", f"arn:aws:ecr:{here}:repository/captionist-collector"}
    write = {f"arn:aws:logs:{here}:log-group:/captionist/{NAME}:*"}
    secrets = {secret["ARN"] for secret in stack.ask("secretsmanager", "list_secrets")["SecretList"]}
    assert len(secrets) == 3
    assert allowed["execution"] == {
        "ecr:GetAuthorizationToken": {"*"},  # it knows no resources
        "ecr:BatchCheckLayerAvailability": pull,
        "ecr:BatchGetImage": pull,
        "ecr:GetDownloadUrlForLayer": pull,
        "logs:CreateLogStream": write,
        "logs:PutLogEvents": write,
        "secretsmanager:GetSecretValue": secrets,
    }
    tasks = {f"arn:aws:ecs:{here}:task/{NAME}/*"}
    (workspace,) = stack.ask("amp", "list_workspaces")["workspaces"]
    assert allowed["task"] == {
        "ecs:GetTaskProtection": tasks,
        "ecs:UpdateTaskProtection": tasks,
        "aps:RemoteWrite": {workspace["arn"]},
    }
    assert {action for action, resources in allowed["flow-log"].items() if "*" in resources} == {
        "logs:DescribeLogGroups"  # of all groups, or of none
    }


def as_list(value: str | list[str]) -> list[str]:
    """IAM writes a list of one as its only item."""
    return [value] if isinstance(value, str) else value


def test_alarms_tell_somebody(stack: Stack) -> None:
    topic = stack.output("alarm_topic")
    alarms = [
        alarm for alarm in stack.ask("cloudwatch", "describe_alarms")["MetricAlarms"]
        if alarm["AlarmName"].startswith(f"{NAME}-")
    ]  # fmt: skip
    assert {alarm["AlarmName"].removeprefix(f"{NAME}-") for alarm in alarms} == {
        "cpu", "database-cpu", "errors", "failures", "feedback", "latency", "memory", "missing-tasks",
        "no-healthy-task", "queue", "unhealthy-tasks",
    }  # fmt: skip
    for alarm in alarms:
        assert alarm["AlarmActions"] == alarm["OKActions"] == [topic]
        assert alarm["AlarmDescription"]
    (subscription,) = stack.ask("sns", "list_subscriptions_by_topic", TopicArn=topic)["Subscriptions"]
    assert subscription["Endpoint"] == "operator@example.org"
    policy = json.loads(stack.ask("sns", "get_topic_attributes", TopicArn=topic)["Attributes"]["Policy"])
    allowed = {
        statement["Principal"]["Service"]: (set(as_list(statement["Action"])), statement.get("Condition"))
        for statement in policy["Statement"]
    }
    ours = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}
    assert allowed == {
        "cloudwatch.amazonaws.com": ({"sns:Publish"}, ours),
        "events.amazonaws.com": ({"sns:Publish"}, None),
        "aps.amazonaws.com": ({"sns:Publish", "sns:GetTopicAttributes"}, ours),
    }


def test_the_dashboard_asks_for_metrics_that_there_are(stack: Stack) -> None:
    body = json.loads(stack.ask("cloudwatch", "get_dashboard", DashboardName=f"{NAME}-{REGION}")["DashboardBody"])
    panels = [widget["properties"] for widget in body["widgets"] if widget["type"] == "metric"]
    own = {metric[1] for panel in panels for metric in panel["metrics"] if metric[0] == "Captionist"}
    assert {"QueueDepth", "Admitted", "Captions", "Confidence", "FeedbackGood", "FeedbackStoreFailures"} <= own
    alarms = next(widget for widget in body["widgets"] if widget["type"] == "alarm")["properties"]["alarms"]
    assert len(alarms) == 11
    places = {(widget["x"], widget["y"]) for widget in body["widgets"]}
    assert len(places) == len(body["widgets"])


def test_prometheus_gets_the_rules_and_the_collector_tells_tasks_apart(stack: Stack) -> None:
    (workspace,) = stack.ask("amp", "list_workspaces")["workspaces"]
    here = {"workspaceId": workspace["workspaceId"]}
    found = stack.ask("amp", "list_rule_groups_namespaces", **here)["ruleGroupsNamespaces"]
    files = {
        path.stem: path.read_text(encoding="utf-8") for path in (AWS.parent / "prometheus" / "rules").glob("*.yml")
    }
    assert {one["name"] for one in found} == files.keys()
    for name, text in files.items():
        kept = stack.ask("amp", "describe_rule_groups_namespace", name=name, **here)["ruleGroupsNamespace"]
        assert kept["data"] == text
    kept = stack.ask("amp", "describe_alert_manager_definition", **here)["alertManagerDefinition"]
    definition = yaml.safe_load(yaml.safe_load(kept["data"])["alertmanager_config"])
    (receiver,) = definition["receivers"]
    assert receiver["sns_configs"][0]["topic_arn"] == stack.output("alarm_topic")
    (variable,) = stack.container("collector")["environment"]
    collector = yaml.safe_load(variable["value"])
    (scrape,) = collector["receivers"]["prometheus"]["config"]["scrape_configs"]
    assert (scrape["job_name"], scrape["static_configs"]) == ("captionist", [{"targets": ["127.0.0.1:8000"]}])
    endpoint = collector["exporters"]["prometheusremotewrite"]["endpoint"]
    assert endpoint == f"{stack.output('prometheus')}api/v1/remote_write"
    pipeline = collector["service"]["pipelines"]["metrics"]
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == set(collector[kind])
    assert collector["service"]["extensions"] == list(collector["extensions"])
    (attribute,) = collector["processors"]["resource"]["attributes"]
    assert (attribute["key"], attribute["from_attribute"]) == ("service.instance.id", "aws.ecs.task.arn")


def test_a_second_plan_finds_no_drift_but_motos(stack: Stack) -> None:
    changes = stack.terraform.planned(**variables(stack.certificate))
    drift = {
        address: {key for key, value in change["after"].items() if value != change["before"].get(key)}
        for address, change in changes.items()
    }
    assert all(change["actions"] == ["update"] for change in changes.values())
    assert drift == DRIFT_OF_MOTO


def test_a_new_image_replaces_only_the_task_definition(stack: Stack) -> None:
    before = stack.task()["revision"]
    changed = variables(stack.certificate, digest="1")
    plan = stack.terraform.planned(**changed)
    assert plan.keys() - DRIFT_OF_MOTO.keys() == {"aws_ecs_task_definition.this"}
    assert "task_definition" in plan["aws_ecs_service.this"]["after_unknown"]
    stack.terraform("apply", "-input=false", "planned")
    assert stack.task()["revision"] == before + 1
    assert stack.container("captionist")["image"].endswith("1" * 64)


def test_destroying_it_leaves_nothing_but_the_last_snapshot(stack: Stack) -> None:
    snapshot = stack.output("final_snapshot")
    stack.terraform("destroy", "-auto-approve", "-input=false", "-refresh=false", "-parallelism=30")
    (kept,) = stack.ask("rds", "describe_db_snapshots")["DBSnapshots"]
    assert kept["DBSnapshotIdentifier"] == snapshot
    assert json.loads(stack.terraform.state)["resources"] == []
    # Things that AWS would otherwise keep, at least for a time.
    assert stack.ask("secretsmanager", "list_secrets")["SecretList"] == []
    assert stack.ask("s3", "list_buckets")["Buckets"] == []
    assert stack.ask("logs", "describe_log_groups")["logGroups"] == []


def test_the_registry_keeps_images_as_they_are(stack: Stack, tmp_path: Path) -> None:
    terraform = Terraform(tmp_path, "registry", AWS_ENDPOINT_URL=stack.cloud.address)
    terraform.apply()
    repositories = stack.ask("ecr", "describe_repositories")["repositories"]
    assert {one["repositoryName"] for one in repositories} == {"captionist", "captionist-collector"}
    for one in repositories:
        assert one["imageTagMutability"] == "IMMUTABLE"
        assert one["imageScanningConfiguration"] == {"scanOnPush": True}
        policy = stack.ask("ecr", "get_lifecycle_policy", repositoryName=one["repositoryName"])
        assert len(json.loads(policy["lifecyclePolicyText"])["rules"]) == 2
    assert terraform.planned() == {}
    terraform("destroy", "-auto-approve", "-input=false")
    assert stack.ask("ecr", "describe_repositories")["repositories"] == []
