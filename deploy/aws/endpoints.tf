# How tasks reach AWS without a way to the internet. ECS itself needs none on Fargate.

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

# ECR keeps the layers of images in a bucket of AWS's, and tasks need no other, unless they fetch pictures by URL.
resource "aws_vpc_endpoint" "s3" {
  vpc_id          = aws_vpc.this.id
  service_name    = "com.amazonaws.${var.region}.s3"
  route_table_ids = values(aws_route_table.private)[*].id
  policy          = var.nat ? null : data.aws_iam_policy_document.layers.json
  tags            = { Name = "${var.name}-s3" }
}

data "aws_iam_policy_document" "layers" {
  statement {
    actions   = ["s3:GetObject"]
    resources = ["arn:aws:s3:::prod-${var.region}-starport-layer-bucket/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }
  }
}
