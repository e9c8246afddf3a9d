output "load_balancer" {
  description = "What the service's name shall point to: a CNAME to `name`, or an alias to both in Route 53"
  value       = { name = aws_lb.this.dns_name, zone = aws_lb.this.zone_id }
}

output "service" {
  description = "The ECS service, as `aws ecs` wants it"
  value       = { cluster = aws_ecs_cluster.this.name, service = aws_ecs_service.this.name, task = aws_ecs_task_definition.this.arn }
}

output "dashboard" {
  description = "The dashboard in CloudWatch"
  value       = "https://${var.region}.console.aws.amazon.com/cloudwatch/home?region=${var.region}#dashboards/dashboard/${aws_cloudwatch_dashboard.this.dashboard_name}"
}

output "log_group" {
  description = "Where the service logs, for Logs Insights"
  value       = aws_cloudwatch_log_group.service.name
}

output "alarm_topic" {
  description = "SNS topic of all alarms"
  value       = aws_sns_topic.alarms.arn
}

output "prometheus" {
  description = "Amazon Managed Prometheus, as Grafana's data source wants it; null where it is off"
  value       = one(aws_prometheus_workspace.this[*].prometheus_endpoint)
}

output "buckets" {
  description = "Names of the buckets"
  value       = { for key, bucket in local.buckets : key => bucket.id }
}

output "final_snapshot" {
  description = "What the database's snapshot will be called that stays when all is destroyed; null where there is no database"
  value       = one(aws_db_instance.this[*].final_snapshot_identifier)
}
