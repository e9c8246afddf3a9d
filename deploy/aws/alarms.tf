locals {
  of_load_balancer = { LoadBalancer = aws_lb.this.arn_suffix }
  of_target_group  = merge(local.of_load_balancer, { TargetGroup = aws_lb_target_group.this.arn_suffix })
  of_service       = { ClusterName = aws_ecs_cluster.this.name, ServiceName = aws_ecs_service.this.name }
  of_captionist    = { Service = var.name }

  # RequestCount counts the requests that reached a task; if there is none, the load balancer answers by itself.
  asked = "FILL(requests, 0) + FILL(balancer, 0)"

  # Each alarm watches one metric, or an expression of several. Of the last `periods` periods of `seconds` (by default
  # 60), `alarming` must be above or below the threshold, in a row or not. missing: what no data means.
  alarms = merge({
    no-healthy-task = {
      says      = "No task answers its health check: the service is down (docs/operations.md#captionistdown)"
      namespace = "AWS/ApplicationELB", metric = "HealthyHostCount", stat = "Minimum"
      below     = 1, periods = 3, alarming = 3, missing = "breaching" # without a target there is no metric
      of        = local.of_target_group
    }
    missing-tasks = {
      says       = "Fewer tasks run than should: the service's events say why (docs/operations.md#captionistcrashloop)"
      expression = "desired - FILL(running, 0)", label = "tasks that should run but do not"
      namespace  = "ECS/ContainerInsights", stat = "Average"
      metrics    = { desired = "DesiredTaskCount", running = "RunningTaskCount" }
      above      = 0, periods = 15, missing = "breaching"
      alarming   = 5 # not in a row: tasks that crash are replaced, and run for a while each time
      of         = local.of_service
    }
    failures = {
      says       = "More than 5 % of at least 20 requests in five minutes failed (docs/operations.md#captionisterrorbudgetburn)"
      expression = "IF(${local.asked} >= 20, 100 * (FILL(tasks, 0) + FILL(balancer, 0)) / (${local.asked}), 0)"
      label      = "failed requests, percent"
      namespace  = "AWS/ApplicationELB", stat = "Sum", seconds = 300
      metrics    = { requests = "RequestCount", tasks = "HTTPCode_Target_5XX_Count", balancer = "HTTPCode_ELB_5XX_Count" }
      above      = 5, periods = 2, alarming = 2
      of         = local.of_load_balancer
    }
    unhealthy-tasks = {
      says      = "A task does not answer its health check (docs/operations.md#captionistdown)"
      namespace = "AWS/ApplicationELB", metric = "UnHealthyHostCount", stat = "Maximum"
      above     = 0, periods = 5, alarming = 5
      of        = local.of_target_group
    }
    latency = {
      says      = "More than 5 % of requests take longer than 2.5 s (docs/operations.md#captionistlatencybudgetburn)"
      namespace = "AWS/ApplicationELB", metric = "TargetResponseTime", stat = "p95"
      above     = 2.5, periods = 15, alarming = 10
      of        = local.of_load_balancer
    }
    queue = {
      says      = "Pictures wait although tasks should have been added: are all ${var.max_tasks} running? (docs/operations.md#captionistsaturated)"
      namespace = local.metrics, metric = "QueueDepth", stat = "Average"
      above     = 4 * var.queue_target, periods = 10, alarming = 10
      of        = local.of_captionist
    }
    feedback = {
      says      = "Feedback could not be stored (docs/operations.md#captionistfeedbackstorefailing)"
      namespace = local.metrics, metric = "FeedbackStoreFailures", stat = "Sum"
      above     = 0, periods = 5, alarming = 2
      of        = local.of_captionist
    }
    cpu = {
      says      = "The tasks' processors are full (docs/operations.md#captionistsaturated)"
      namespace = "AWS/ECS", metric = "CPUUtilization", stat = "Average"
      above     = 90, periods = 15, alarming = 15
      of        = local.of_service
    }
    memory = {
      says      = "The tasks' memory is nearly full: give them more, or lower CAPTIONIST_MAX_PICTURE_PIXELS"
      namespace = "AWS/ECS", metric = "MemoryUtilization", stat = "Maximum"
      above     = 90, periods = 5, alarming = 3
      of        = local.of_service
    }
    errors = {
      says      = "The service logged errors: { $.level = \"error\" } in ${aws_cloudwatch_log_group.service.name}"
      namespace = local.log_metrics, metric = "LoggedErrors", stat = "Sum"
      above     = 0, periods = 15, alarming = 3
      of        = {}
    }
    }, {
    for database in aws_db_instance.this : "database-cpu" => {
      says      = "The database's processor is full"
      namespace = "AWS/RDS", metric = "CPUUtilization", stat = "Average"
      above     = 90, periods = 15, alarming = 15
      of        = { DBInstanceIdentifier = database.identifier }
    }
  })
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each            = local.alarms
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.says
  namespace           = can(each.value.expression) ? null : each.value.namespace
  metric_name         = try(each.value.metric, null)
  dimensions          = can(each.value.expression) ? null : each.value.of
  statistic           = can(each.value.expression) || startswith(each.value.stat, "p") ? null : each.value.stat
  extended_statistic  = startswith(each.value.stat, "p") ? each.value.stat : null
  period              = can(each.value.expression) ? null : 60
  comparison_operator = can(each.value.below) ? "LessThanThreshold" : "GreaterThanThreshold"
  threshold           = try(each.value.below, each.value.above)
  evaluation_periods  = each.value.periods
  datapoints_to_alarm = each.value.alarming
  treat_missing_data  = try(each.value.missing, "notBreaching")
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]

  dynamic "metric_query" {
    for_each = try([each.value.expression], [])

    content {
      id          = "result"
      label       = each.value.label
      expression  = metric_query.value
      return_data = true
    }
  }

  dynamic "metric_query" {
    for_each = try(each.value.metrics, {})

    content {
      id = metric_query.key

      metric {
        namespace   = each.value.namespace
        metric_name = metric_query.value
        dimensions  = each.value.of
        period      = try(each.value.seconds, 60)
        stat        = each.value.stat
      }
    }
  }
}

# A deployment that the circuit breaker stopped.
resource "aws_cloudwatch_event_rule" "rolled_back" {
  name        = "${var.name}-rolled-back"
  description = "A deployment failed, and was rolled back"
  event_pattern = jsonencode({
    source      = ["aws.ecs"]
    detail-type = ["ECS Deployment State Change"]
    resources   = [aws_ecs_service.this.id]
    detail      = { eventName = ["SERVICE_DEPLOYMENT_FAILED"] }
  })
}

resource "aws_cloudwatch_event_target" "rolled_back" {
  rule = aws_cloudwatch_event_rule.rolled_back.name
  arn  = aws_sns_topic.alarms.arn
}

resource "aws_sns_topic" "alarms" {
  #checkov:skip=CKV_AWS_26:alarms' texts are not secret, and CloudWatch cannot publish to a topic with SNS's own key
  name = "${var.name}-alarms"
}

resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [
        {
          Effect    = "Allow"
          Action    = "sns:Publish"
          Resource  = aws_sns_topic.alarms.arn
          Principal = { Service = "cloudwatch.amazonaws.com" }
          Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
        },
        {
          # With a condition, EventBridge could not publish.
          Effect    = "Allow"
          Action    = "sns:Publish"
          Resource  = aws_sns_topic.alarms.arn
          Principal = { Service = "events.amazonaws.com" }
        },
      ],
      [for workspace in aws_prometheus_workspace.this : {
        Effect    = "Allow"
        Action    = ["sns:Publish", "sns:GetTopicAttributes"]
        Resource  = aws_sns_topic.alarms.arn
        Principal = { Service = "aps.amazonaws.com" }
        Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
      }],
    )
  })
}

resource "aws_sns_topic_subscription" "mail" {
  for_each  = var.alarm_emails
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = each.key
}
