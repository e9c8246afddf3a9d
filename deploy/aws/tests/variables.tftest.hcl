# Each wrong variable is refused, before anything is made. Many in a run, since each run takes seconds; but
# none together with one that its condition looks at.

mock_provider "aws" {
  source = "./tests/mocks"
}

# Terraform mocks no ephemeral resources: tests/deploy/test_aws.py has moto's server answer for them.
provider "aws" {
  alias  = "secrets"
  region = "us-east-1"
}

variables {
  image           = "123456789012.dkr.ecr.us-east-1.amazonaws.com/captionist@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
  api_keys        = [{ name = "website", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }]
}

run "wrong_1" {
  command = plan
  variables {
    # an image by its tag
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/captionist:latest"
    # no certificate
    certificate_arn = ""
    # no api key
    api_keys = []
    # a name that is too long
    name = "captionist-of-the-whole-company"
    # a network that is too small
    vpc_cidr = "10.0.0.0/24"
    # nobody allowed
    allowed_cidrs = []
    # a rate that waf has not
    waf_rate = 1
    # a processor that fargate has not
    cpu_architecture = "amd64"
    # a share of a processor that fargate has not
    cpu = 1000
    # a grace period that fargate cuts short
    grace_period = 120
    # no tasks
    min_tasks = 0
    # a cpu target that leaves no room
    cpu_target = 100
    # a requests target of nothing
    requests_target = 0
    # a queue target that is the whole queue
    queue_target = 64
    # a database class that is none
    database_class = "small"
    # a database with too little storage
    database_storage = 5
    # exports for no time
    exports_days = 0
    # a retention that cloudwatch has not
    log_retention_days = 100
    # metrics that come too rarely
    emf_interval = 300
    # an address that is none
    alarm_emails = ["operator"]
    # a public image of the collector
    collector_image = "public.ecr.aws/aws-observability/aws-otel-collector:latest"
  }
  expect_failures = [
    var.image,
    var.certificate_arn,
    var.api_keys,
    var.name,
    var.vpc_cidr,
    var.allowed_cidrs,
    var.waf_rate,
    var.cpu_architecture,
    var.cpu,
    var.grace_period,
    var.min_tasks,
    var.cpu_target,
    var.requests_target,
    var.queue_target,
    var.database_class,
    var.database_storage,
    var.exports_days,
    var.log_retention_days,
    var.emf_interval,
    var.alarm_emails,
    var.collector_image,
  ]
}

run "wrong_2" {
  command = plan
  variables {
    # a region that is none
    region = "here"
    # too little memory for the processor
    memory = 1024
    # a setting that is none of the services
    settings = { PORT = "80" }
    # fewer tasks at most than at least
    max_tasks = 1
    # a name with two hyphens in a row
    name = "captionist--2"
    # a network that is none
    vpc_cidr = "10.0.0.0"
    # an address instead of a network
    allowed_cidrs = ["203.0.113.7"]
  }
  expect_failures = [
    var.region,
    var.memory,
    var.settings,
    var.max_tasks,
    var.name,
    var.vpc_cidr,
    var.allowed_cidrs,
  ]
}

run "wrong_3" {
  command = plan
  variables {
    # an image of another registry
    image = "docker.io/library/captionist@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    # a certificate of another region
    certificate_arn = "arn:aws:acm:eu-west-1:123456789012:certificate/00000000-0000-0000-0000-000000000000"
    # a key instead of its sha 256
    api_keys = [{ name = "website", sha256 = "my-key" }]
    # memory between fargates steps
    memory = 2500
    # half a task
    max_tasks = 2.5
    # a collector of another region
    collector_image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/collector@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }
  expect_failures = [
    var.image,
    var.certificate_arn,
    var.api_keys,
    var.memory,
    var.max_tasks,
    var.collector_image,
  ]
}

run "wrong_4" {
  command = plan
  variables {
    # a setting that is made here
    settings = { CAPTIONIST_PORT = "80" }
    # an image of another region
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/captionist@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }
  expect_failures = [
    var.settings,
    var.image,
  ]
}

run "wrong_5" {
  command = plan
  variables {
    # a key whose name has a space
    api_keys = [{ name = "the website", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }]
  }
  expect_failures = [
    var.api_keys,
  ]
}

run "wrong_6" {
  command = plan
  variables {
    # a fetching service with no way out
    settings = { CAPTIONIST_FETCH_URLS = "true" }
  }
  expect_failures = [
    var.settings,
  ]
}

run "wrong_7" {
  command = plan
  variables {
    # two keys of one name
    api_keys = [{ name = "website", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }, { name = "website", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }]
  }
  expect_failures = [
    var.api_keys,
  ]
}

run "wrong_8" {
  command = plan
  variables {
    # a rate that is none
    api_keys = [{ name = "website", sha256 = "0000000000000000000000000000000000000000000000000000000000000000", rate = "often" }]
  }
  expect_failures = [
    var.api_keys,
  ]
}

run "fargate_has_256_units_with_512_mib" {
  command = plan
  variables {
    cpu    = 256
    memory = 512
  }
  assert {
    condition     = aws_ecs_task_definition.this.cpu == "256" && aws_ecs_task_definition.this.memory == "512"
    error_message = "The task must be of the size that was asked for."
  }
}

run "fargate_has_8192_units_with_61440_mib" {
  command = plan
  variables {
    cpu    = 8192
    memory = 61440
  }
  assert {
    condition     = aws_ecs_task_definition.this.cpu == "8192" && aws_ecs_task_definition.this.memory == "61440"
    error_message = "The task must be of the size that was asked for."
  }
}

run "fargate_has_16384_units_with_122880_mib" {
  command = plan
  variables {
    cpu    = 16384
    memory = 122880
  }
  assert {
    condition     = aws_ecs_task_definition.this.cpu == "16384" && aws_ecs_task_definition.this.memory == "122880"
    error_message = "The task must be of the size that was asked for."
  }
}

run "everybody_is_let_in_where_the_operator_says_so" {
  command = plan
  variables {
    api_keys = []
    settings = { CAPTIONIST_ALLOW_ANONYMOUS = "true" }
  }
}
