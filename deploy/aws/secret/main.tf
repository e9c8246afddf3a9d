# A secret that AWS makes up, and that is written without passing through the state (write-only arguments).

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

variable "name" {
  description = "Begins its name"
  type        = string
}

variable "description" {
  description = "What it is for"
  type        = string
}

variable "revision" {
  description = "Another number makes another secret"
  type        = number
}

variable "recovery_days" {
  description = "Days for which it can be brought back after it was deleted; 0 for none"
  type        = number
}

ephemeral "aws_secretsmanager_random_password" "this" {
  password_length     = 64
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "this" {
  #checkov:skip=CKV_AWS_149:Secrets Manager encrypts with its own key
  #checkov:skip=CKV2_AWS_57:tasks read it when they start; var.revision makes a new one, and new tasks with it
  name_prefix             = "${var.name}-"
  description             = var.description
  recovery_window_in_days = var.recovery_days
}

resource "aws_secretsmanager_secret_version" "this" {
  secret_id                = aws_secretsmanager_secret.this.id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.this.random_password
  secret_string_wo_version = var.revision
}

# Read back, so that whoever else needs it gets what was kept, also where an apply failed between the two.
ephemeral "aws_secretsmanager_secret_version" "this" {
  secret_id  = aws_secretsmanager_secret_version.this.secret_id
  version_id = aws_secretsmanager_secret_version.this.version_id
}

output "arn" {
  description = "Its ARN"
  value       = aws_secretsmanager_secret.this.arn
}

output "value_from" {
  description = "What an ECS task definition calls it: ARN:KEY:STAGE:VERSION. A new version makes new tasks"
  value       = "${aws_secretsmanager_secret.this.arn}:::${aws_secretsmanager_secret_version.this.version_id}"
}

output "value" {
  description = "The secret itself"
  value       = ephemeral.aws_secretsmanager_secret_version.this.secret_string
  ephemeral   = true
  sensitive   = true
}
