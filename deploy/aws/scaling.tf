# Any of three signals may add tasks; tasks are removed when processors and queue both allow it. Requests do not count
# for that: without any, the load balancer has no data, and without data nothing would be removed.

resource "aws_appautoscaling_target" "this" {
  service_namespace  = "ecs"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.this.name}"
  scalable_dimension = "ecs:service:DesiredCount"
  min_capacity       = var.min_tasks
  max_capacity       = var.max_tasks
}

locals {
  scaling = {
    cpu      = { target = var.cpu_target, predefined = "ECSServiceAverageCPUUtilization" }
    requests = { target = var.requests_target * var.cpu / 1024, predefined = "ALBRequestCountPerTarget" }
    queue    = { target = var.queue_target, predefined = null }
  }
}

resource "aws_appautoscaling_policy" "this" {
  for_each           = local.scaling
  name               = each.key
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  resource_id        = aws_appautoscaling_target.this.resource_id
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension

  target_tracking_scaling_policy_configuration {
    target_value       = each.value.target
    scale_out_cooldown = 60
    scale_in_cooldown  = 300
    disable_scale_in   = each.key == "requests"

    dynamic "predefined_metric_specification" {
      for_each = each.value.predefined[*]

      content {
        predefined_metric_type = each.value.predefined
        resource_label         = each.key == "requests" ? "${aws_lb.this.arn_suffix}/${aws_lb_target_group.this.arn_suffix}" : null
      }
    }

    # The service's own metric: the number of pictures waiting in a task, as the mean over tasks.
    dynamic "customized_metric_specification" {
      for_each = each.key == "queue" ? [1] : []

      content {
        namespace   = local.metrics
        metric_name = "QueueDepth"
        statistic   = "Average"

        dimensions {
          name  = "Service"
          value = var.name
        }
      }
    }
  }
}
