# Two roles: ECS's own for starting a task (execution), and the task's. Roles belong to the account, across regions, so
# their names contain the region.

locals {
  ecr_image = "/^([0-9]+)\\.dkr\\.ecr\\.([^.]+)\\.amazonaws\\.com/(.+)@sha256:.*$/"

  taken_by_tasks = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        ArnLike      = { "aws:SourceArn" = "arn:aws:ecs:${var.region}:${local.account}:*" }
      }
    }]
  })
}

resource "aws_iam_role" "execution" {
  name               = "${var.name}-${var.region}-execution"
  assume_role_policy = local.taken_by_tasks
}

resource "aws_iam_role_policy" "execution" {
  name = "start-tasks"
  role = aws_iam_role.execution.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = "ecr:GetAuthorizationToken", Resource = "*" }, # this action has no resources
      {
        Effect   = "Allow"
        Action   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = [for image in compact([var.image, var.collector_image]) : replace(image, local.ecr_image, "arn:aws:ecr:$2:$1:repository/$3")]
      },
      {
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.service.arn}:*"
      },
      {
        Effect   = "Allow"
        Action   = "secretsmanager:GetSecretValue"
        Resource = concat([aws_secretsmanager_secret.api_keys.arn], values(aws_secretsmanager_secret.made_up)[*].arn)
      },
    ]
  })
}

resource "aws_iam_role" "task" {
  name               = "${var.name}-${var.region}-task"
  assume_role_policy = local.taken_by_tasks
}

# With neither of the two, the task has no rights at all.
resource "aws_iam_role_policy" "protection" {
  count = var.scale_in_protection ? 1 : 0
  name  = "protect-itself"
  role  = aws_iam_role.task.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["ecs:GetTaskProtection", "ecs:UpdateTaskProtection"]
      Resource = "arn:aws:ecs:${var.region}:${local.account}:task/${aws_ecs_cluster.this.name}/*"
    }]
  })
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
