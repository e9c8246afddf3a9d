output "load_balancer" {
  description = "Where to point the service's domain name: a CNAME to `name`, or in Route 53 an alias to both"
  value       = { name = aws_lb.this.dns_name, zone = aws_lb.this.zone_id }
}

output "service" {
  description = "The ECS service, under the names that `aws ecs` needs"
  value       = { cluster = aws_ecs_cluster.this.name, service = aws_ecs_service.this.name, task = aws_ecs_task_definition.this.arn }
}

output "dashboard" {
  description = "The dashboard in CloudWatch"
  value       = "https://${var.region}.console.aws.amazon.com/cloudwatch/home?region=${var.region}#dashboards/dashboard/${aws_cloudwatch_dashboard.this.dashboard_name}"
}

output "log_group" {
  description = "The service's log group, for Logs Insights"
  value       = aws_cloudwatch_log_group.service.name
}

output "alarm_topic" {
  description = "SNS topic of all alarms"
  value       = aws_sns_topic.alarms.arn
}

output "prometheus" {
  description = "Address of Amazon Managed Prometheus, for Grafana's data source; null if it is off"
  value       = one(aws_prometheus_workspace.this[*].prometheus_endpoint)
}

output "buckets" {
  description = "Names of the buckets"
  value       = { for key, bucket in local.buckets : key => bucket.id }
}

output "final_snapshot" {
  description = "Name of the database snapshot that will remain after `terraform destroy`; null if there is no database"
  value       = one(aws_db_instance.this[*].final_snapshot_identifier)
}
