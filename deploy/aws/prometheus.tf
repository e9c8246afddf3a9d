# Amazon Managed Prometheus, with the rules of deploy/prometheus; a collector in each task feeds it.

locals {
  prometheus = var.collector_image != null
  rules      = { for file in fileset("${path.module}/../prometheus/rules", "*.yml") : trimsuffix(file, ".yml") => file if local.prometheus }
}

resource "aws_prometheus_workspace" "this" {
  #checkov:skip=CKV_AWS_342:the log would name failing rules, but promtool has tested them
  count = local.prometheus ? 1 : 0
  alias = var.name
}

resource "aws_prometheus_rule_group_namespace" "this" {
  for_each     = local.rules
  name         = each.key
  workspace_id = aws_prometheus_workspace.this[0].id
  data         = file("${path.module}/../prometheus/rules/${each.value}")
}

# As in deploy/container/alertmanager.yml, with the other alarms' topic as the receiver.
resource "aws_prometheus_alert_manager_definition" "this" {
  count        = local.prometheus ? 1 : 0
  workspace_id = aws_prometheus_workspace.this[0].id
  definition = yamlencode({
    alertmanager_config = yamlencode({
      route = {
        receiver        = "topic"
        group_by        = ["alertname", "severity"]
        group_wait      = "30s"
        group_interval  = "5m"
        repeat_interval = "24h"
        routes          = [{ receiver = "topic", matchers = ["severity=\"page\""], repeat_interval = "1h" }]
      }
      receivers = [{
        name = "topic"
        sns_configs = [{
          topic_arn = aws_sns_topic.alarms.arn
          sigv4     = { region = var.region }
          subject   = "{{ .GroupLabels.alertname }} ({{ .GroupLabels.severity }})"
          message   = "{{ range .Alerts }}{{ .Status }}: {{ .Annotations.summary }}\n{{ .Annotations.runbook_url }}\n{{ end }}"
        }]
      }]
      inhibit_rules = [{
        source_matchers = ["severity=\"page\""]
        target_matchers = ["severity=\"ticket\""]
        equal           = ["alertname"]
      }]
    })
  })
}

locals {
  collector = [for image in var.collector_image[*] : {
    name                   = "collector"
    image                  = image
    essential              = false # captions work without it
    user                   = "10001:10001"
    readonlyRootFilesystem = true
    memoryReservation      = 128
    linuxParameters        = { initProcessEnabled = false, capabilities = { add = [], drop = ["ALL"] } }
    environment            = [{ name = "AOT_CONFIG_CONTENT", value = yamlencode(local.collector_config) }]

    logConfiguration = merge(local.log_configuration, {
      options = merge(local.log_configuration.options, { awslogs-stream-prefix = "collector" })
    })
  }]

  collector_config = {
    receivers = {
      prometheus = {
        config = {
          scrape_configs = [{
            job_name        = "captionist" # as in the rules and dashboards
            scrape_interval = "30s"
            # The containers of a task share its loopback, where /metrics needs no key.
            static_configs = [{ targets = ["127.0.0.1:${local.port}"] }]
          }]
        }
      }
    }
    # All tasks have the same loopback address; the task's ARN, as the label `instance`, tells their series apart.
    processors = {
      memory_limiter    = { check_interval = "5s", limit_mib = 100 }
      resourcedetection = { detectors = ["ecs"] }
      resource          = { attributes = [{ key = "service.instance.id", from_attribute = "aws.ecs.task.arn", action = "upsert" }] }
      batch             = { timeout = "10s" }
    }
    exporters = {
      prometheusremotewrite = {
        endpoint    = "${local.prometheus ? aws_prometheus_workspace.this[0].prometheus_endpoint : ""}api/v1/remote_write"
        auth        = { authenticator = "sigv4auth" }
        target_info = { enabled = false }
        # The names already follow Prometheus's conventions.
        add_metric_suffixes = false
      }
    }
    extensions = { sigv4auth = { region = var.region, service = "aps" } }
    service = {
      extensions = ["sigv4auth"]
      telemetry  = { metrics = { level = "none" }, logs = { level = "warn" } }
      pipelines = {
        metrics = {
          receivers  = ["prometheus"]
          processors = ["memory_limiter", "resourcedetection", "resource", "batch"]
          exporters  = ["prometheusremotewrite"]
        }
      }
    }
  }
}
