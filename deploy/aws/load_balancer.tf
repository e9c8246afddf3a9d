resource "aws_lb" "this" {
  #checkov:skip=CKV2_AWS_76:AWSManagedRulesKnownBadInputsRuleSet is in waf.tf, in a loop that checkov cannot follow
  #checkov:skip=CKV2_AWS_28:WAF is the operator's choice: var.waf
  #checkov:skip=CKV_AWS_150:var.protect is on unless everything is to be destroyed
  name                       = var.name
  load_balancer_type         = "application"
  subnets                    = values(aws_subnet.public)[*].id
  security_groups            = [local.group["load-balancer"]]
  idle_timeout               = 60 # the service keeps connections for 75 seconds, so that it never hangs up first
  drop_invalid_header_fields = true
  enable_deletion_protection = var.protect

  access_logs {
    bucket  = aws_s3_bucket.access_logs.id
    enabled = true
  }

  depends_on = [
    aws_s3_bucket_policy.access_logs, # until then, the load balancer may not write there
    aws_route.internet,               # until then, its subnets have no internet access, and it is refused
    aws_route_table_association.public,
  ]
}

resource "aws_lb_target_group" "this" {
  #checkov:skip=CKV_AWS_378:TLS ends at the load balancer; behind it is our own network
  name                          = var.name
  vpc_id                        = aws_vpc.this.id
  target_type                   = "ip"
  protocol                      = "HTTP"
  port                          = 8000
  load_balancing_algorithm_type = "least_outstanding_requests"
  deregistration_delay          = local.stop_timeout

  health_check {
    path                = "/health/ready"
    matcher             = "200"
    interval            = 10
    timeout             = 5
    healthy_threshold   = 2
    unhealthy_threshold = 3
  }
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.this.arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = var.certificate_arn

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this.arn
  }
}

resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.this.arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "redirect"

    redirect {
      protocol    = "HTTPS"
      port        = "443"
      status_code = "HTTP_301"
    }
  }
}
