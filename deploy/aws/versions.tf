terraform {
  required_version = ">= 1.11" # write-only arguments keep passwords out of the state

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
    tags = local.tags
  }
}

# The same provider again, for ephemeral resources. Terraform's tests cannot mock those, so they mock everything except
# this one.
provider "aws" {
  alias  = "secrets"
  region = var.region

  default_tags {
    tags = local.tags
  }
}

data "aws_caller_identity" "current" {}

locals {
  tags    = merge({ Service = var.name, ManagedBy = "terraform" }, var.tags)
  account = data.aws_caller_identity.current.account_id
}
