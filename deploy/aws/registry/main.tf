# The images' repositories. They are separate, since images must exist before the service and outlive it: for rolling
# back, and for several services (staging, production) that run the same image.

terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = { Service = var.name, ManagedBy = "terraform" }
  }
}

variable "name" {
  description = "Name of the service's repository; the collector's ends in -collector"
  type        = string
  default     = "captionist"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,48}[a-z0-9]$", var.name))
    error_message = "The name has 3 to 50 lower-case letters, digits and hyphens, begins with a letter and does not end with a hyphen."
  }
}

variable "region" {
  description = "AWS region, the same as the service's"
  type        = string
  default     = "us-east-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "This is not a region such as eu-central-1."
  }
}

variable "keep" {
  description = "How many tagged images to keep"
  type        = number
  default     = 50

  validation {
    condition     = var.keep >= 2 && floor(var.keep) == var.keep
    error_message = "Keep at least two images: the one that runs, and the one to roll back to."
  }
}

variable "protect" {
  description = "Refuse to delete repositories that hold images; false before `terraform destroy`"
  type        = bool
  default     = true
}

resource "aws_ecr_repository" "this" {
  #checkov:skip=CKV_AWS_136:ECR encrypts with its own key
  for_each             = { service = var.name, collector = "${var.name}-collector" }
  name                 = each.value
  image_tag_mutability = "IMMUTABLE"
  force_delete         = !var.protect

  image_scanning_configuration {
    scan_on_push = true
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  for_each   = aws_ecr_repository.this
  repository = each.value.name
  policy = jsonencode({
    rules = [
      {
        # The images in an index (one per architecture) have no tag, but ECR keeps them as long as the index.
        rulePriority = 1
        description  = "images that lost their tag"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 14 }
        action       = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "all but the newest"
        selection    = { tagStatus = "tagged", tagPatternList = ["*"], countType = "imageCountMoreThan", countNumber = var.keep }
        action       = { type = "expire" }
      },
    ]
  })
}

output "repositories" {
  description = "Where to push images"
  value       = { for key, repository in aws_ecr_repository.this : key => repository.repository_url }
}
