# Secrets that AWS generates. They never pass through the state (write-only arguments). A new `revision` makes a new
# secret. They have their own provider: see versions.tf.

locals {
  recovery_days = var.protect ? 30 : 0

  made_up = merge(
    { signing = { is = "CAPTIONIST_SECRET: signs the ids of captions", revision = var.signing_secret_version } },
    var.database ? { database = { is = "The password of the database", revision = var.database_password_version } } : {},
  )
  # Each secret as an ECS task definition names it: ARN:KEY:STAGE:VERSION. A new version makes new tasks.
  made_up_from = {
    for key, version in aws_secretsmanager_secret_version.made_up : key => "${version.arn}:::${version.version_id}"
  }
}

ephemeral "aws_secretsmanager_random_password" "made_up" {
  for_each            = local.made_up
  provider            = aws.secrets
  password_length     = 64
  exclude_punctuation = true
}

resource "aws_secretsmanager_secret" "made_up" {
  #checkov:skip=CKV_AWS_149:Secrets Manager encrypts with its own key
  #checkov:skip=CKV2_AWS_57:tasks read it when they start; a new revision makes a new one, and new tasks
  for_each                = local.made_up
  provider                = aws.secrets
  name_prefix             = "${var.name}-${each.key}-"
  description             = each.value.is
  recovery_window_in_days = local.recovery_days
}

resource "aws_secretsmanager_secret_version" "made_up" {
  for_each                 = local.made_up
  provider                 = aws.secrets
  secret_id                = aws_secretsmanager_secret.made_up[each.key].id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.made_up[each.key].random_password
  secret_string_wo_version = each.value.revision
}

# Read back, so that the database gets the stored password, even if an apply failed between the two.
ephemeral "aws_secretsmanager_secret_version" "database" {
  count      = local.database
  provider   = aws.secrets
  secret_id  = aws_secretsmanager_secret_version.made_up["database"].secret_id
  version_id = aws_secretsmanager_secret_version.made_up["database"].version_id
}

resource "aws_secretsmanager_secret" "api_keys" {
  #checkov:skip=CKV_AWS_149:Secrets Manager encrypts with its own key
  #checkov:skip=CKV2_AWS_57:these are clients' keys, which only the clients can change
  name_prefix             = "${var.name}-api-keys-"
  description             = "CAPTIONIST_API_KEYS: who may use the service"
  recovery_window_in_days = local.recovery_days
}

# Not write-only: these are only the keys' SHA-256, and this way Terraform sees and applies a change.
resource "aws_secretsmanager_secret_version" "api_keys" {
  secret_id = aws_secretsmanager_secret.api_keys.id
  secret_string = jsonencode([
    for key in var.api_keys : { for field, value in key : field => value if value != null }
  ])
}
