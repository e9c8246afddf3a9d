# PostgreSQL for feedback. Captions do not need it: while it is down, only feedback is refused.

resource "aws_db_subnet_group" "this" {
  count      = local.database
  name       = var.name
  subnet_ids = values(aws_subnet.private)[*].id
}

resource "aws_db_instance" "this" {
  #checkov:skip=CKV_AWS_118:the usual metrics say enough about a database this small
  #checkov:skip=CKV_AWS_129:its log quotes what users wrote, which does not belong in a log
  #checkov:skip=CKV_AWS_157:var.database_multi_az is the operator's choice; captions need no database
  #checkov:skip=CKV_AWS_161:the service logs in with a password that nobody knows
  #checkov:skip=CKV_AWS_293:var.protect is on unless everything is to be destroyed
  #checkov:skip=CKV_AWS_353:the usual metrics say enough about a database this small
  #checkov:skip=CKV2_AWS_30:its log quotes what users wrote, which does not belong in a log
  #checkov:skip=CKV2_AWS_60:it is set below
  count                      = local.database
  identifier                 = var.name
  engine                     = "postgres"
  engine_version             = "17" # from 15 on, RDS accepts only TLS
  instance_class             = var.database_class
  storage_type               = "gp3"
  allocated_storage          = var.database_storage
  max_allocated_storage      = 5 * var.database_storage
  storage_encrypted          = true
  multi_az                   = var.database_multi_az
  db_name                    = "captionist"
  username                   = "captionist"
  password_wo                = ephemeral.aws_secretsmanager_secret_version.database[0].secret_string
  password_wo_version        = var.database_password_version
  db_subnet_group_name       = aws_db_subnet_group.this[0].name
  vpc_security_group_ids     = [local.group["database"]]
  publicly_accessible        = false
  auto_minor_version_upgrade = true
  backup_retention_period    = 7
  copy_tags_to_snapshot      = true
  deletion_protection        = var.protect
  # The secret's random ending keeps a second final snapshot from colliding with the first.
  final_snapshot_identifier = "${var.name}-final-${lower(substr(aws_secretsmanager_secret.made_up["database"].arn, -6, 6))}"
}

locals {
  database = var.database ? 1 : 0
}
