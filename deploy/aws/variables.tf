# Required

variable "image" {
  description = "The service's image in ECR, by digest: ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME@sha256:DIGEST"
  type        = string

  validation {
    condition     = can(regex("^[0-9]{12}\\.dkr\\.ecr\\.[a-z0-9-]+\\.amazonaws\\.com/[a-z0-9._/-]+@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Name the image in ECR by its digest (NAME@sha256:...), not by a tag: a tag may be another image tomorrow, and without NAT no other registry can be reached."
  }
  validation {
    condition     = strcontains(var.image, ".ecr.${var.region}.")
    error_message = "The image must be in the ECR of the region ${var.region}: the tasks reach no other."
  }
}

variable "certificate_arn" {
  description = "ACM certificate for the service's domain name, in the same region"
  type        = string

  validation {
    condition     = can(regex("^arn:aws[a-z-]*:acm:[a-z0-9-]+:[0-9]{12}:certificate/[0-9a-f-]+$", var.certificate_arn))
    error_message = "This is not the ARN of an ACM certificate (arn:aws:acm:REGION:ACCOUNT:certificate/ID). There is no way to serve without TLS."
  }
  validation {
    condition     = strcontains(var.certificate_arn, ":acm:${var.region}:")
    error_message = "The certificate must be in ${var.region}, like its load balancer."
  }
}

variable "api_keys" {
  description = "Clients' keys, as SHA-256; `rate` is a limit such as 60/minute, and `admin` may export feedback"
  type = list(object({
    name   = string
    sha256 = string
    rate   = optional(string)
    admin  = optional(bool, false)
  }))

  validation {
    condition     = length(var.api_keys) > 0 || lookup(var.settings, "CAPTIONIST_ALLOW_ANONYMOUS", "") == "true"
    error_message = "Without API keys the service does not start. If anyone may use it, say so: settings = { CAPTIONIST_ALLOW_ANONYMOUS = \"true\" }."
  }
  validation {
    condition     = alltrue([for key in var.api_keys : can(regex("^[0-9a-f]{64}$", key.sha256))])
    error_message = "sha256 is the key's SHA-256 in 64 hexadecimal digits, and not the key itself: printf %s KEY | sha256sum"
  }
  validation {
    condition     = alltrue([for key in var.api_keys : can(regex("^[A-Za-z0-9_-]{1,40}$", key.name))])
    error_message = "A key's name has 1 to 40 letters, digits, hyphens and underscores."
  }
  validation {
    condition     = length(distinct(var.api_keys[*].name)) == length(var.api_keys)
    error_message = "Two API keys have the same name."
  }
  validation {
    condition     = alltrue([for key in var.api_keys : can(regex("^[1-9][0-9]*/(second|minute|hour|day)$", key.rate)) if key.rate != null])
    error_message = "A rate is given as 60/minute; the units are second, minute, hour and day."
  }
}

# Name and place

variable "name" {
  description = "Prefix of every resource's name; also the dimension Service of the metrics"
  type        = string
  default     = "captionist"

  validation {
    condition     = can(regex("^[a-z](-?[a-z0-9])+$", var.name)) && length(var.name) >= 3 && length(var.name) <= 20
    error_message = "The name has 3 to 20 lower-case letters, digits and single hyphens, begins with a letter and does not end with a hyphen: load balancers, buckets and databases allow no more."
  }
}

variable "region" {
  description = "AWS region"
  type        = string
  default     = "us-east-1"

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "This is not a region such as eu-central-1."
  }
  validation {
    condition     = !can(regex("^(cn|us-gov|us-iso|eu-iso)", var.region))
    error_message = "This is for AWS's public regions: in China, GovCloud and the isolated ones, ARNs and addresses differ."
  }
}

variable "tags" {
  description = "More tags for everything"
  type        = map(string)
  default     = {}
}

variable "protect" {
  description = "Refuse to delete the load balancer, the database and buckets that are not empty; set to false before `terraform destroy`"
  type        = bool
  default     = true
}

# Network

variable "vpc_cidr" {
  description = "Address range of the network"
  type        = string
  default     = "10.20.0.0/20"

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && try(contains(range(16, 23), tonumber(split("/", var.vpc_cidr)[1])), false)
    error_message = "This is not a network of a size from /16 to /22, such as 10.20.0.0/20."
  }
}

variable "allowed_cidrs" {
  description = "IPv4 networks that may reach the load balancer"
  type        = list(string)
  default     = ["0.0.0.0/0"]

  validation {
    condition     = length(var.allowed_cidrs) > 0 && alltrue([for cidr in var.allowed_cidrs : can(cidrnetmask(cidr))])
    error_message = "Name at least one IPv4 network, such as 203.0.113.0/24."
  }
  validation {
    condition     = length(var.allowed_cidrs) <= 30 && length(distinct(var.allowed_cidrs)) == length(var.allowed_cidrs)
    error_message = "Name at most 30 networks, each once: a security group has 60 rules, and each network takes two."
  }
}

variable "nat" {
  description = "Let tasks reach the internet through a NAT gateway in each zone; only CAPTIONIST_FETCH_URLS needs it"
  type        = bool
  default     = false
}

variable "waf" {
  description = "Put AWS WAF before the load balancer"
  type        = bool
  default     = false
}

variable "waf_rate" {
  description = "Requests that WAF allows from one address in five minutes"
  type        = number
  default     = 3000
}
