# Two roles: ECS's own for starting a task (execution), and what the task itself may do. Roles are the account's, of all
# regions, and so have the region in their names.

data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }
    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:aws:ecs:${var.region}:${local.account}:*"]
    }
  }
}

resource "aws_iam_role" "execution" {
  name               = "${var.name}-${var.region}-execution"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

resource "aws_iam_role_policy" "execution" {
  name   = "start-tasks"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}

data "aws_iam_policy_document" "execution" {
  #checkov:skip=CKV_AWS_356:ecr:GetAuthorizationToken knows no resources
  statement {
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }
  statement {
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [for image in compact([var.image, var.collector_image]) : replace(image, local.ecr_image, "arn:aws:ecr:$2:$1:repository/$3")]
  }
  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.service.arn}:*"]
  }
  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = concat([aws_secretsmanager_secret.api_keys.arn], values(aws_secretsmanager_secret.made_up)[*].arn)
  }
}

locals {
  ecr_image = "/^([0-9]+)\\.dkr\\.ecr\\.([^.]+)\\.amazonaws\\.com/(.+)@sha256:.*$/"
}

resource "aws_iam_role" "task" {
  name               = "${var.name}-${var.region}-task"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

# With neither of the two the task may do nothing at all.
resource "aws_iam_role_policy" "protection" {
  count  = var.scale_in_protection ? 1 : 0
  name   = "protect-itself"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.protection.json
}

data "aws_iam_policy_document" "protection" {
  statement {
    actions   = ["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"]
    resources = ["arn:aws:ecs:${var.region}:${local.account}:task/${aws_ecs_cluster.this.name}/*"]
  }
}

resource "aws_iam_role_policy" "remote_write" {
  count = local.prometheus ? 1 : 0
  name  = "write-metrics"
  role  = aws_iam_role.task.id
  policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "aps:RemoteWrite", Resource = aws_prometheus_workspace.this[0].arn }]
  })
}
