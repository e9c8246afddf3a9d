# Each option, off and on: what is made, and what is not. Many in a run, since each run takes seconds.

mock_provider "aws" {
  source = "./tests/mocks"
}

# Terraform mocks no ephemeral resources: tests/deploy/test_aws.py has moto's server answer for them.
provider "aws" {
  alias  = "secrets"
  region = "us-east-1"
}

variables {
  image           = "123456789012.dkr.ecr.us-east-1.amazonaws.com/captionist@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
  api_keys        = [{ name = "website", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }]
}

run "the_least_that_must_be_set" {
  command = plan

  assert {
    condition     = length(aws_subnet.private) == 2 && length(aws_subnet.public) == 2
    error_message = "There must be two zones."
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 0 && length(aws_route.nat) == 0 && length(aws_vpc_security_group_egress_rule.internet) == 0
    error_message = "Tasks must have no way to the internet."
  }
  assert {
    condition     = keys(aws_vpc_endpoint.interface) == ["ecr.api", "ecr.dkr", "logs", "secretsmanager"]
    error_message = "Tasks need endpoints for their image, their log and their secrets."
  }
  assert {
    condition     = length(aws_wafv2_web_acl.this) == 0 && length(aws_prometheus_workspace.this) == 0 && length(aws_s3_bucket.exports) == 0
    error_message = "WAF, Managed Prometheus and the exports' bucket must be asked for."
  }
  assert {
    condition     = length(aws_db_instance.this) == 1 && aws_db_instance.this[0].deletion_protection && !aws_db_instance.this[0].multi_az
    error_message = "Feedback must be kept in a protected database."
  }
  assert {
    condition     = aws_lb.this.enable_deletion_protection && !aws_s3_bucket.access_logs.force_destroy
    error_message = "What runs must be protected."
  }
  assert {
    condition     = length(aws_iam_role_policy.protection) == 0 && length(aws_iam_role_policy.remote_write) == 0
    error_message = "The task must be allowed nothing."
  }
  assert {
    condition     = aws_lb_target_group.this.deregistration_delay == "35" && local.container.stopTimeout == 35
    error_message = "Draining and stopping must take five seconds longer than the service's grace period."
  }
  assert {
    condition     = aws_ecs_service.this.deployment_circuit_breaker[0].enable && aws_ecs_service.this.deployment_circuit_breaker[0].rollback && aws_ecs_service.this.deployment_minimum_healthy_percent == 100
    error_message = "A bad deployment must be rolled back, and a good one must take nothing away first."
  }
  assert {
    condition     = aws_ecs_service.this.health_check_grace_period_seconds > local.container.healthCheck.startPeriod
    error_message = "The load balancer must not give a task up that still starts."
  }
  assert {
    condition     = contains(data.aws_availability_zones.available.exclude_zone_ids, "use1-az3")
    error_message = "Tasks must be in zones that have Fargate."
  }
  assert {
    condition     = [for key, policy in aws_appautoscaling_policy.this : key if policy.target_tracking_scaling_policy_configuration[0].disable_scale_in] == ["requests"]
    error_message = "Tasks must be taken away also where no requests come at all."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["no-healthy-task"].treat_missing_data == "breaching" && aws_cloudwatch_metric_alarm.this["no-healthy-task"].threshold == 1
    error_message = "Somebody must be told when there is no task at all."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["missing-tasks"].datapoints_to_alarm == 5 && aws_cloudwatch_metric_alarm.this["missing-tasks"].evaluation_periods == 15
    error_message = "Tasks that crash again and again must be told of."
  }
  assert {
    condition     = alltrue([for name in [aws_iam_role.execution.name, aws_iam_role.task.name, aws_iam_role.flow_log.name, aws_cloudwatch_dashboard.this.dashboard_name] : strcontains(name, "us-east-1")])
    error_message = "What the account has of all regions must not collide with another region's."
  }
  assert {
    condition     = length(aws_sns_topic_subscription.mail) == 0
    error_message = "Nobody was named to be told of alarms."
  }
}

run "everything_and_unprotected" {
  command = plan
  variables {
    nat                 = true
    settings            = { CAPTIONIST_FETCH_URLS = "true" }
    database_multi_az   = true
    database_class      = "db.m7g.large"
    database_storage    = 100
    waf                 = true
    waf_rate            = 500
    exports             = true
    exports_days        = 7
    collector_image     = "123456789012.dkr.ecr.us-east-1.amazonaws.com/captionist-collector@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    scale_in_protection = true
    cpu_architecture    = "ARM64"
    cpu                 = 4096
    memory              = 8192
    allowed_cidrs       = ["203.0.113.0/24", "198.51.100.0/24"]
    alarm_emails        = ["a@example.org", "b@example.org"]
    protect             = false
  }
  assert {
    condition     = length(aws_nat_gateway.this) == 2 && length(aws_route.nat) == 2 && length(aws_vpc_security_group_egress_rule.internet) == 2
    error_message = "Each zone must have a way out of its own."
  }
  assert {
    condition     = tostring(local.environment["CAPTIONIST_FETCH_URLS"]) == "true"
    error_message = "The setting must reach the service."
  }
  assert {
    condition     = aws_db_instance.this[0].multi_az && aws_db_instance.this[0].instance_class == "db.m7g.large" && aws_db_instance.this[0].max_allocated_storage == 500
    error_message = "The database must be what was asked for."
  }
  assert {
    condition     = length(aws_wafv2_web_acl.this) == 1 && length(aws_wafv2_web_acl_association.this) == 1 && length(aws_wafv2_web_acl_logging_configuration.this) == 1
    error_message = "WAF must stand before the load balancer, and log."
  }
  assert {
    condition     = length(distinct(aws_wafv2_web_acl.this[0].rule[*].priority)) == 4
    error_message = "Each of the four rules must have a priority of its own."
  }
  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.this["exports"].rule[0].expiration[0].days == 7 && aws_s3_bucket_public_access_block.this["exports"].restrict_public_buckets
    error_message = "Exports must be private, and must not be kept for longer than asked for."
  }
  assert {
    condition     = keys(aws_prometheus_rule_group_namespace.this) == ["objectives", "quality", "service"] && length(aws_prometheus_alert_manager_definition.this) == 1
    error_message = "All rules must be loaded, and somebody told."
  }
  assert {
    condition     = contains(keys(aws_vpc_endpoint.interface), "aps-workspaces") && length(aws_iam_role_policy.remote_write) == 1
    error_message = "The collector must reach the workspace, and be allowed to."
  }
  assert {
    condition     = length(aws_iam_role_policy.protection) == 1 && tostring(local.environment["CAPTIONIST_SCALE_IN_PROTECTION"]) == "true"
    error_message = "Tasks must be told to protect themselves, and be allowed to."
  }
  assert {
    condition     = aws_ecs_task_definition.this.runtime_platform[0].cpu_architecture == "ARM64" && tostring(local.environment["CAPTIONIST_ENGINES"]) == "4"
    error_message = "Each vCPU must run batches of its own."
  }
  assert {
    condition     = aws_appautoscaling_policy.this["requests"].target_tracking_scaling_policy_configuration[0].target_value == 1480
    error_message = "Tasks of four vCPUs must take four times the requests."
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.clients) == 4 && length(aws_sns_topic_subscription.mail) == 2
    error_message = "Each network must reach both ports, and each address be told of alarms."
  }
  assert {
    condition     = !aws_lb.this.enable_deletion_protection && !aws_db_instance.this[0].deletion_protection && aws_s3_bucket.access_logs.force_destroy
    error_message = "Nothing must stand in the way of destroying it."
  }
  assert {
    condition     = coalesce(aws_db_instance.this[0].skip_final_snapshot, false) == false
    error_message = "What users wrote must outlive the database, until somebody deletes the snapshot."
  }
}

run "no_database" {
  command = plan
  variables {
    database = false
  }
  assert {
    condition     = length(aws_db_instance.this) == 0 && !contains(keys(local.made_up), "database") && output.final_snapshot == null
    error_message = "There must be no database, and no password of one."
  }
  assert {
    condition     = !contains(keys(local.environment), "CAPTIONIST_DATABASE_URL")
    error_message = "The service must not be told of a database."
  }
  assert {
    condition     = !contains(keys(aws_cloudwatch_metric_alarm.this), "database-cpu")
    error_message = "There must be no alarm for a database."
  }
}
