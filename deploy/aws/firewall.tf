# Who may talk to whom: the world to the load balancer, the load balancer to the tasks, and the tasks to AWS's endpoints
# and the database.

resource "aws_security_group" "this" {
  for_each = {
    load-balancer = "HTTPS from clients"
    tasks         = "The service, from the load balancer"
    endpoints     = "AWS services, from the tasks"
    database      = "PostgreSQL, from the tasks"
  }
  #checkov:skip=CKV2_AWS_5:they are attached by key, which checkov cannot follow
  name        = "${var.name}-${each.key}"
  description = each.value
  vpc_id      = aws_vpc.this.id
  tags        = { Name = "${var.name}-${each.key}" }
}

locals {
  group = { for key, group in aws_security_group.this : key => group.id }

  # Each flow between two groups needs a rule out and a rule in.
  flows = {
    service   = { from = "load-balancer", to = "tasks", port = 8000 }
    endpoints = { from = "tasks", to = "endpoints", port = 443 }
    database  = { from = "tasks", to = "database", port = 5432 }
  }
}

resource "aws_vpc_security_group_egress_rule" "flow" {
  for_each                     = local.flows
  description                  = "to ${each.value.to}"
  security_group_id            = local.group[each.value.from]
  referenced_security_group_id = local.group[each.value.to]
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_ingress_rule" "flow" {
  for_each                     = local.flows
  description                  = "from ${each.value.from}"
  security_group_id            = local.group[each.value.to]
  referenced_security_group_id = local.group[each.value.from]
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  #checkov:skip=CKV_AWS_260:port 80 only redirects to HTTPS
  for_each = { for pair in setproduct(var.allowed_cidrs, [80, 443]) : "${pair[0]}:${pair[1]}" => pair }

  description       = "clients"
  security_group_id = local.group["load-balancer"]
  cidr_ipv4         = each.value[0]
  ip_protocol       = "tcp"
  from_port         = each.value[1]
  to_port           = each.value[1]
}

resource "aws_vpc_security_group_egress_rule" "layers" {
  description       = "image layers, through the S3 endpoint"
  security_group_id = local.group["tasks"]
  prefix_list_id    = aws_vpc_endpoint.s3.prefix_list_id
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_vpc_security_group_egress_rule" "internet" {
  for_each = var.nat ? toset(["80", "443"]) : []

  description       = "pictures named by URL"
  security_group_id = local.group["tasks"]
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = each.key
  to_port           = each.key
}
