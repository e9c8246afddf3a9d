# Feedback

variable "database" {
  description = "Keep feedback in PostgreSQL; without it, each task's feedback is lost with the task"
  type        = bool
  default     = true
}

variable "database_class" {
  description = "RDS instance class"
  type        = string
  default     = "db.t4g.micro"

  validation {
    condition     = can(regex("^db\\.[a-z0-9]+\\.[a-z0-9]+$", var.database_class))
    error_message = "This is not an instance class such as db.t4g.micro."
  }
}

variable "database_storage" {
  description = "GiB of storage at the start; it grows up to five times that"
  type        = number
  default     = 20

  validation {
    condition     = var.database_storage >= 20 && var.database_storage <= 13000 && floor(var.database_storage) == var.database_storage
    error_message = "The storage is 20 to 13000 whole GiB."
  }
}

variable "database_multi_az" {
  description = "Keep a standby database in the other zone; captions need no database"
  type        = bool
  default     = false
}

variable "database_password_version" {
  description = "Add 1 to make a new password"
  type        = number
  default     = 1
}

variable "exports" {
  description = "Make a bucket for exported feedback and kept pictures"
  type        = bool
  default     = false
}

variable "exports_days" {
  description = "Days until exports are deleted, including what users have since taken back"
  type        = number
  default     = 30

  validation {
    condition     = var.exports_days >= 1 && floor(var.exports_days) == var.exports_days
    error_message = "Exports are kept for at least one whole day."
  }
}

# Monitoring

variable "log_retention_days" {
  description = "Days until logs are deleted, including the load balancer's"
  type        = number
  default     = 90
}

variable "emf_interval" {
  description = "Seconds between data points of the service's own metrics in CloudWatch"
  type        = number
  default     = 10

  validation {
    condition     = var.emf_interval >= 1 && var.emf_interval <= 60
    error_message = "The interval is 1 to 60 seconds: scaling looks once a minute."
  }
}

variable "alarm_emails" {
  description = "Mail addresses that alarms are sent to, once each has confirmed the subscription"
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.alarm_emails : can(regex("^[^@\\s]+@[^@\\s]+$", address))])
    error_message = "This is not a list of mail addresses."
  }
}

variable "collector_image" {
  description = "A copy of the ADOT collector in ECR, by digest; setting it turns Amazon Managed Prometheus on"
  type        = string
  default     = null

  validation {
    condition     = var.collector_image == null || can(regex("^[0-9]{12}\\.dkr\\.ecr\\.[a-z0-9-]+\\.amazonaws\\.com/[a-z0-9._/-]+@sha256:[0-9a-f]{64}$", var.collector_image))
    error_message = "Copy the collector into ECR (docs/aws.md says how) and name it by its digest: tasks without NAT cannot reach public.ecr.aws."
  }
  validation {
    condition     = var.collector_image == null || try(strcontains(var.collector_image, ".ecr.${var.region}."), false)
    error_message = "The collector's image must be in the ECR of the region ${var.region}: the tasks reach no other."
  }
}
