locals {
  balancer = ["LoadBalancer", aws_lb.this.arn_suffix]
  tasks    = ["ClusterName", aws_ecs_cluster.this.name, "ServiceName", aws_ecs_service.this.name]
  own      = ["Service", var.name]

  # Title, unit on the axis, and the metrics: namespace, name, dimensions, options.
  panels = [
    ["Requests and failures a minute", "Count", [
      concat(["AWS/ApplicationELB", "RequestCount"], local.balancer, [{ stat = "Sum", label = "requests" }]),
      concat(["AWS/ApplicationELB", "HTTPCode_Target_4XX_Count"], local.balancer, [{ stat = "Sum", label = "4xx" }]),
      concat(["AWS/ApplicationELB", "HTTPCode_Target_5XX_Count"], local.balancer, [{ stat = "Sum", label = "5xx" }]),
      concat(["AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count"], local.balancer, [{ stat = "Sum", label = "5xx of the load balancer" }]),
    ]],
    ["Duration of requests", "Seconds", [
      concat(["AWS/ApplicationELB", "TargetResponseTime"], local.balancer, [{ stat = "p50" }]),
      concat(["AWS/ApplicationELB", "TargetResponseTime"], local.balancer, [{ stat = "p95" }]),
      concat(["AWS/ApplicationELB", "TargetResponseTime"], local.balancer, [{ stat = "p99" }]),
    ]],
    ["Tasks", "Count", [
      concat(["ECS/ContainerInsights", "DesiredTaskCount"], local.tasks, [{ stat = "Average", label = "desired" }]),
      concat(["ECS/ContainerInsights", "RunningTaskCount"], local.tasks, [{ stat = "Average", label = "running" }]),
    ]],
    ["Processor and memory", "Percent", [
      concat(["AWS/ECS", "CPUUtilization"], local.tasks, [{ stat = "Average", label = "CPU" }]),
      concat(["AWS/ECS", "MemoryUtilization"], local.tasks, [{ stat = "Maximum", label = "memory, fullest task" }]),
    ]],
    ["Pictures that wait, mean per task", "Count", [
      concat([local.metrics, "QueueDepth"], local.own, [{ stat = "Average", label = "waiting" }]),
      concat([local.metrics, "Admitted"], local.own, [{ stat = "Average", label = "admitted and not done" }]),
    ]],
    ["Captions and refusals a minute", "Count", [
      concat([local.metrics, "Captions"], local.own, [{ stat = "Sum", label = "captions" }]),
      concat([local.metrics, "Rejections"], local.own, [{ stat = "Sum", label = "refused" }]),
      concat([local.metrics, "Errors"], local.own, [{ stat = "Sum", label = "5xx of captions" }]),
    ]],
    ["In the log, a minute", "Count", [
      [local.log_metrics, "LoggedErrors", { stat = "Sum", label = "errors" }],
      [local.log_metrics, "ServerErrors", { stat = "Sum", label = "requests with 5xx" }],
    ]],
    ["Confidence of captions", "", [
      concat([local.metrics, "Confidence"], local.own, [{ stat = "Average", label = "confidence" }]),
    ]],
    ["Feedback a minute", "Count", [
      concat([local.metrics, "FeedbackGood"], local.own, [{ stat = "Sum", label = "good" }]),
      concat([local.metrics, "FeedbackBad"], local.own, [{ stat = "Sum", label = "bad" }]),
      concat([local.metrics, "FeedbackStoreFailures"], local.own, [{ stat = "Sum", label = "not stored" }]),
    ]],
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = "${var.name}-${var.region}" # dashboards belong to the account, across regions
  dashboard_body = jsonencode({
    widgets = concat(
      [{
        type = "alarm", x = 0, y = 0, width = 24, height = 3
        properties = {
          title  = "Alarms"
          alarms = values(aws_cloudwatch_metric_alarm.this)[*].arn
        }
      }],
      [for index, panel in local.panels : {
        type = "metric", x = 12 * (index % 2), y = 3 + 6 * floor(index / 2), width = 12, height = 6
        properties = {
          title   = panel[0]
          region  = var.region
          period  = 60
          metrics = panel[2]
          yAxis   = { left = merge({ min = 0 }, panel[1] == "" ? {} : { label = panel[1], showUnits = false }) }
        }
      }],
      [{
        type = "log", x = 0, y = 33, width = 24, height = 6
        properties = {
          title  = "Warnings and errors"
          region = var.region
          view   = "table"
          query  = "SOURCE '${aws_cloudwatch_log_group.service.name}' | fields @timestamp, level, event, request_id, exception | filter level in ['warning', 'error', 'critical'] | sort @timestamp desc | limit 50"
        }
      }],
    )
  })
}
