# How tasks reach AWS without internet access. On Fargate, ECS itself needs no endpoint.

resource "aws_vpc_endpoint" "interface" {
  for_each = toset(concat(
    ["ecr.api", "ecr.dkr", "logs", "secretsmanager"],
    local.prometheus ? ["aps-workspaces"] : [],
  ))
  vpc_id              = aws_vpc.this.id
  service_name        = "com.amazonaws.${var.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = values(aws_subnet.private)[*].id
  security_group_ids  = [local.group["endpoints"]]
  private_dns_enabled = true
  tags                = { Name = "${var.name}-${each.key}" }
}

# ECR keeps images' layers in one of AWS's buckets. Tasks need no other bucket, unless they fetch pictures by URL.
resource "aws_vpc_endpoint" "s3" {
  vpc_id          = aws_vpc.this.id
  service_name    = "com.amazonaws.${var.region}.s3"
  route_table_ids = values(aws_route_table.private)[*].id
  policy = var.nat ? null : jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "s3:GetObject"
      Resource  = "arn:aws:s3:::prod-${var.region}-starport-layer-bucket/*"
      Principal = "*"
    }]
  })
  tags = { Name = "${var.name}-s3" }
}
