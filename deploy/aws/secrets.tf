module "signing" {
  providers     = { aws = aws.secrets }
  source        = "./secret"
  name          = "${var.name}-signing"
  description   = "CAPTIONIST_SECRET: signs the ids of captions"
  revision      = var.signing_secret_version
  recovery_days = local.recovery_days
}

resource "aws_secretsmanager_secret" "api_keys" {
  #checkov:skip=CKV_AWS_149:Secrets Manager encrypts with its own key
  #checkov:skip=CKV2_AWS_57:these are clients' keys, which only the clients can change
  name_prefix             = "${var.name}-api-keys-"
  description             = "CAPTIONIST_API_KEYS: who may use the service"
  recovery_window_in_days = local.recovery_days
}

# Not write-only: these are only the keys' SHA-256, and so a change of them is seen and applied.
resource "aws_secretsmanager_secret_version" "api_keys" {
  secret_id = aws_secretsmanager_secret.api_keys.id
  secret_string = jsonencode([
    for key in var.api_keys : { for field, value in key : field => value if value != null }
  ])
}

locals {
  recovery_days = var.protect ? 30 : 0
}
