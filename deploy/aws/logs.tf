resource "aws_cloudwatch_log_group" "service" {
  #checkov:skip=CKV_AWS_158:CloudWatch encrypts with its own key
  #checkov:skip=CKV_AWS_338:the retention is the operator's choice: var.log_retention_days
  name              = "/captionist/${var.name}"
  retention_in_days = var.log_retention_days
}

locals {
  metrics     = "Captionist"                  # the service's own metrics (CAPTIONIST_EMF_NAMESPACE)
  log_metrics = "Captionist/Logs/${var.name}" # metrics counted in its log
}

resource "aws_cloudwatch_log_metric_filter" "this" {
  for_each = {
    LoggedErrors = "{ $.level = \"error\" || $.level = \"critical\" }"
    ServerErrors = "{ $.event = \"request\" && $.status >= 500 }"
  }
  name           = each.key
  log_group_name = aws_cloudwatch_log_group.service.name
  pattern        = each.value

  metric_transformation {
    namespace     = local.log_metrics
    name          = each.key
    value         = "1"
    default_value = "0"
  }
}

# Traffic that the security groups rejected.
resource "aws_flow_log" "rejected" {
  vpc_id          = aws_vpc.this.id
  traffic_type    = "REJECT"
  log_destination = aws_cloudwatch_log_group.network.arn
  iam_role_arn    = aws_iam_role.flow_log.arn
}

resource "aws_cloudwatch_log_group" "network" {
  #checkov:skip=CKV_AWS_158:CloudWatch encrypts with its own key
  #checkov:skip=CKV_AWS_338:the retention is the operator's choice: var.log_retention_days
  name              = "/captionist/${var.name}/network"
  retention_in_days = var.log_retention_days
}

resource "aws_iam_role" "flow_log" {
  name = "${var.name}-${var.region}-flow-log"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "vpc-flow-logs.amazonaws.com" }
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_iam_role_policy" "flow_log" {
  name = "write-flow-logs"
  role = aws_iam_role.flow_log.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.network.arn}:*"
      },
      {
        # Flow logs list all of the account's groups.
        Effect   = "Allow"
        Action   = "logs:DescribeLogGroups"
        Resource = "*"
      },
    ]
  })
}
