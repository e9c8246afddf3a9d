# Tasks

variable "cpu_architecture" {
  description = "X86_64 or ARM64; the image must be built for it"
  type        = string
  default     = "X86_64"
}

variable "cpu" {
  description = "CPU units per task: 1024 are one vCPU, and each whole vCPU runs its own batches"
  type        = number
  default     = 1024

  validation {
    condition     = contains([256, 512, 1024, 2048, 4096, 8192, 16384], var.cpu)
    error_message = "Fargate has 256, 512, 1024, 2048, 4096, 8192 or 16384 CPU units."
  }
}

variable "memory" {
  description = "Memory per task in MiB; a vCPU needs about 1,000 (docs/service.md), and the collector 200"
  type        = number
  default     = 2048

  validation {
    # An unknown number of CPU units has its own message.
    condition = contains(try({
      256   = [512, 1024, 2048]
      512   = range(1024, 4097, 1024)
      1024  = range(2048, 8193, 1024)
      2048  = range(4096, 16385, 1024)
      4096  = range(8192, 30721, 1024)
      8192  = range(16384, 61441, 4096)
      16384 = range(32768, 122881, 8192)
    }[tostring(var.cpu)], [var.memory]), var.memory)
    error_message = "Fargate has no tasks of ${var.cpu} CPU units and ${var.memory} MiB. From 1024 units on it is 2 to 8 GiB for each vCPU, in steps of 1024 MiB (4096 with 8 vCPUs, 8192 with 16)."
  }
  validation {
    condition     = var.memory >= (var.collector_image == null ? 1024 : 1280)
    error_message = "The service needs at least 1024 MiB, and 256 more with the collector."
  }
}

variable "grace_period" {
  description = "Seconds for a task to finish what it accepted; CAPTIONIST_GRACE_PERIOD"
  type        = number
  default     = 25

  validation {
    condition     = var.grace_period >= 1 && var.grace_period <= 110 && floor(var.grace_period) == var.grace_period
    error_message = "The grace period is 1 to 110 whole seconds: Fargate kills after 120 at the latest."
  }
}

variable "settings" {
  description = "More settings of the service, as `captionist serve --help` lists them"
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : can(regex("^CAPTIONIST_[A-Z_]+$", name))])
    error_message = "Settings are named CAPTIONIST_...: `captionist serve --help` lists them."
  }
  validation {
    condition = length(setintersection(keys(var.settings), [
      "CAPTIONIST_API_KEYS", "CAPTIONIST_CONFIG", "CAPTIONIST_DATABASE_URL", "CAPTIONIST_DATA_DIR",
      "CAPTIONIST_EMF_INTERVAL", "CAPTIONIST_EMF_NAMESPACE", "CAPTIONIST_ENGINES", "CAPTIONIST_GRACE_PERIOD",
      "CAPTIONIST_HOST", "CAPTIONIST_LOG_FORMAT", "CAPTIONIST_PORT", "CAPTIONIST_SCALE_IN_PROTECTION",
      "CAPTIONIST_SECRET", "CAPTIONIST_SERVICE_NAME",
    ])) == 0
    error_message = "Some of these settings are made here already: use the variables api_keys, cpu, grace_period, emf_interval, scale_in_protection and name, and leave the rest."
  }
  validation {
    condition     = lookup(var.settings, "CAPTIONIST_FETCH_URLS", "false") == "false" || var.nat
    error_message = "CAPTIONIST_FETCH_URLS needs the internet: set nat = true."
  }
  validation {
    condition     = lookup(var.settings, "CAPTIONIST_TRACES", "false") == "false"
    error_message = "CAPTIONIST_TRACES would have nowhere to send traces to: nothing here collects them."
  }
}

variable "signing_secret_version" {
  description = "Add 1 to make a new CAPTIONIST_SECRET; ids of earlier captions then become invalid"
  type        = number
  default     = 1
}

# Scaling

variable "min_tasks" {
  description = "Minimum number of tasks; two, so that one zone may fail"
  type        = number
  default     = 2

  validation {
    condition     = var.min_tasks >= 1 && floor(var.min_tasks) == var.min_tasks
    error_message = "At least one task must run."
  }
}

variable "max_tasks" {
  description = "Maximum number of tasks; it limits the bill"
  type        = number
  default     = 10

  validation {
    condition     = var.max_tasks >= var.min_tasks && floor(var.max_tasks) == var.max_tasks
    error_message = "max_tasks must be a whole number and not below min_tasks."
  }
  validation {
    # A sixteenth of the network, minus the addresses of AWS, the endpoints and the database.
    condition     = var.max_tasks <= pow(2, 28 - tonumber(split("/", var.vpc_cidr)[1])) - 16
    error_message = "Each zone's subnet must have addresses for max_tasks, since a deployment doubles them, or the other zone may fail: 48 in a /22, 240 in a /20, 4080 in a /16. Give vpc_cidr more room."
  }
}

variable "cpu_target" {
  description = "Target for the tasks' mean CPU use, in percent"
  type        = number
  default     = 60

  validation {
    condition     = var.cpu_target >= 10 && var.cpu_target <= 90
    error_message = "The target is 10 to 90 percent."
  }
}

variable "requests_target" {
  description = "Target for requests per minute and vCPU; 370 are 55 % of what docs/service.md measured"
  type        = number
  default     = 370

  validation {
    condition     = var.requests_target >= 1
    error_message = "The target is at least one request a minute."
  }
}

variable "queue_target" {
  description = "Target for the mean number of pictures waiting in each task"
  type        = number
  default     = 2

  validation {
    # The alarm is at four times the target. Pictures in the engine no longer wait, so with a target of a quarter of the
    # queue, the alarm could never go off.
    condition     = var.queue_target > 0 && 8 * var.queue_target <= try(tonumber(lookup(var.settings, "CAPTIONIST_MAX_QUEUE", "64")), 64)
    error_message = "The target is above 0 and at most an eighth of CAPTIONIST_MAX_QUEUE in `settings`, which is 64 by default."
  }
}

variable "scale_in_protection" {
  description = "Protect tasks with pictures in them from scale-in; under steady load, this also holds up deployments"
  type        = bool
  default     = false
}
