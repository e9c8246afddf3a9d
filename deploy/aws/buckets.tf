# The buckets, and what they have in common: one for the load balancer's access logs and, if wanted, one for exports of
# people's feedback and the pictures that they left (`/v1/feedback/export`). The service keeps both in its database and
# may not write here; an operator copies exports in, and training takes them out (docs/aws.md).

locals {
  buckets = merge(
    { access-logs = { id = aws_s3_bucket.access_logs.id, days = var.log_retention_days } },
    { for bucket in aws_s3_bucket.exports : "exports" => { id = bucket.id, days = var.exports_days } },
  )
}

resource "aws_s3_bucket" "access_logs" {
  #checkov:skip=CKV_AWS_18:a log of the logs' bucket would be one more bucket
  #checkov:skip=CKV_AWS_21:logs are written once
  #checkov:skip=CKV_AWS_144:logs need no second region
  #checkov:skip=CKV_AWS_145:load balancers write only with S3's own keys
  #checkov:skip=CKV2_AWS_6:aws_s3_bucket_public_access_block.this, by its key
  #checkov:skip=CKV2_AWS_61:aws_s3_bucket_lifecycle_configuration.this, by its key
  #checkov:skip=CKV2_AWS_62:nothing acts on new objects
  bucket_prefix = "${var.name}-access-logs-"
  force_destroy = !var.protect
}

resource "aws_s3_bucket" "exports" {
  #checkov:skip=CKV_AWS_18:few people have the right to read it; CloudTrail's data events say who did
  #checkov:skip=CKV_AWS_21:what is deleted because a user took it back must be gone
  #checkov:skip=CKV_AWS_144:an export can be made again
  #checkov:skip=CKV_AWS_145:S3 encrypts with its own key
  #checkov:skip=CKV2_AWS_6:aws_s3_bucket_public_access_block.this, by its key
  #checkov:skip=CKV2_AWS_61:aws_s3_bucket_lifecycle_configuration.this, by its key
  #checkov:skip=CKV2_AWS_62:nothing acts on new objects
  count         = var.exports ? 1 : 0
  bucket_prefix = "${var.name}-exports-"
  force_destroy = !var.protect
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each                = local.buckets
  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = local.buckets
  bucket   = each.value.id

  rule {
    id     = "expire"
    status = "Enabled"
    filter {}
    expiration {
      days = each.value.days
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
}

resource "aws_s3_bucket_policy" "access_logs" {
  bucket = aws_s3_bucket.access_logs.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "s3:PutObject"
      Resource  = "${aws_s3_bucket.access_logs.arn}/AWSLogs/${local.account}/*"
      Principal = { Service = "logdelivery.elasticloadbalancing.amazonaws.com" }
    }]
  })
}
