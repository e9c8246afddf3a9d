# What a task consists of: the service, and optionally the collector.

locals {
  port         = 8000
  stop_timeout = var.grace_period + 10 # five seconds for ECS's agent to end protection, two for the last traces

  environment = merge(
    {
      CAPTIONIST_ENGINES             = max(1, floor(var.cpu / 1024)) # it sees the machine's processors, not its share
      CAPTIONIST_GRACE_PERIOD        = var.grace_period
      CAPTIONIST_EMF_INTERVAL        = var.emf_interval
      CAPTIONIST_SERVICE_NAME        = var.name
      CAPTIONIST_SCALE_IN_PROTECTION = var.scale_in_protection
      CAPTIONIST_LOG_FORMAT          = "json"
    },
    # libpq takes the password from PGPASSWORD. `require` encrypts without checking the certificate, as no system trusts
    # RDS's own authority.
    { for database in aws_db_instance.this : "CAPTIONIST_DATABASE_URL" => "postgresql://${database.username}@${database.endpoint}/${database.db_name}?sslmode=require" },
    var.settings,
  )

  secrets = merge(
    {
      CAPTIONIST_SECRET   = local.made_up_from["signing"]
      CAPTIONIST_API_KEYS = "${aws_secretsmanager_secret.api_keys.arn}:::${aws_secretsmanager_secret_version.api_keys.version_id}"
    },
    var.database ? { PGPASSWORD = local.made_up_from["database"] } : {},
  )

  container = {
    name                   = "captionist"
    image                  = var.image
    essential              = true
    user                   = "10001:10001"
    readonlyRootFilesystem = true
    stopTimeout            = local.stop_timeout
    portMappings           = [{ containerPort = local.port, hostPort = local.port, protocol = "tcp" }]
    environment            = [for name, value in local.environment : { name = name, value = tostring(value) }]
    secrets                = [for name, arn in local.secrets : { name = name, valueFrom = arn }]
    mountPoints            = [for path in ["/data", "/tmp"] : { sourceVolume = trimprefix(path, "/"), containerPath = path, readOnly = false }]
    # The image has tini as its first process.
    linuxParameters = { initProcessEnabled = false, capabilities = { add = [], drop = ["ALL"] } }
    healthCheck     = { command = ["CMD", "healthcheck"], interval = 10, timeout = 5, retries = 3, startPeriod = 60 }

    logConfiguration = merge(local.log_configuration, {
      options = merge(local.log_configuration.options, { awslogs-stream-prefix = "service" })
    })
  }

  log_configuration = {
    logDriver = "awslogs"
    options = {
      awslogs-group   = aws_cloudwatch_log_group.service.name
      awslogs-region  = var.region
      mode            = "non-blocking" # a blocked log must not hold up captions
      max-buffer-size = "8m"
    }
  }
}

resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.cpu
  memory                   = var.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn
  container_definitions    = jsonencode(concat([local.container], local.collector))

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  volume {
    name = "data"
  }

  volume {
    name = "tmp"
  }
}
