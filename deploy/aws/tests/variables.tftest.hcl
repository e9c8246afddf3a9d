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
    var.cpu,
    var.grace_period,
    var.min_tasks,
    var.cpu_target,
    var.requests_target,
    var.queue_target,
    var.database_class,
    var.database_storage,
    var.exports_days,
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
    # a setting that is none of the services
    settings = { PORT = "80" }
    # a name with two hyphens in a row
    name = "captionist--2"
    # a network that is none
    vpc_cidr = "10.0.0.0"
    # an address instead of a network
    allowed_cidrs = ["203.0.113.7"]
  }
  expect_failures = [
    var.region,
    var.settings,
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
    # half a task
    max_tasks = 2.5
    # a collector of another region
    collector_image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/collector@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }
  expect_failures = [
    var.image,
    var.certificate_arn,
    var.api_keys,
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
    # memory that fargate has and the service cannot do with
    cpu    = 256
    memory = 512
    # a network named twice
    allowed_cidrs = ["203.0.113.0/24", "203.0.113.0/24"]
    # more tasks than each zone has addresses for
    max_tasks = 241
  }
  expect_failures = [
    var.settings,
    var.image,
    var.memory,
    var.allowed_cidrs,
    var.max_tasks,
  ]
}

run "wrong_5" {
  command = plan
  variables {
    # a key whose name has a space
    api_keys = [{ name = "the website", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }]
    # too little memory for the collector besides
    cpu             = 256
    memory          = 1024
    collector_image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/captionist-collector@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    # more networks than a security group has rules for
    allowed_cidrs = [for index in range(31) : "203.0.113.${index}/32"]
    # more tasks than each zone of a small network has addresses for
    vpc_cidr  = "10.20.0.0/22"
    max_tasks = 49
    # a queue that is too short for the target
    settings = { CAPTIONIST_MAX_QUEUE = "15" }
  }
  expect_failures = [
    var.api_keys,
    var.memory,
    var.allowed_cidrs,
    var.max_tasks,
    var.queue_target,
  ]
}

run "wrong_6" {
  command = plan
  variables {
    # a fetching service with no way out
    settings = { CAPTIONIST_FETCH_URLS = "true" }
    # a region whose arns are others
    region = "us-gov-west-1"
  }
  expect_failures = [
    var.settings,
    var.region,
  ]
}

run "wrong_7" {
  command = plan
  variables {
    # two keys of one name
    api_keys = [{ name = "website", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }, { name = "website", sha256 = "0000000000000000000000000000000000000000000000000000000000000000" }]
    # too little memory for the processor
    memory = 1024
    # fewer tasks at most than at least
    max_tasks = 1
    # a queue target whose alarm would never go off
    queue_target = 8.5
  }
  expect_failures = [
    var.api_keys,
    var.memory,
    var.max_tasks,
    var.queue_target,
  ]
}

run "wrong_8" {
  command = plan
  variables {
    # a rate that is none
    api_keys = [{ name = "website", sha256 = "0000000000000000000000000000000000000000000000000000000000000000", rate = "often" }]
    # memory between fargates steps
    memory = 2500
  }
  expect_failures = [
    var.api_keys,
    var.memory,
  ]
}

run "wrong_9" {
  command = plan
  variables {
    # traces that nothing collects
    settings = { CAPTIONIST_TRACES = "true" }
  }
  expect_failures = [
    var.settings,
  ]
}

# Each at its limit.
run "the_least_memory_and_the_most_of_the_rest" {
  command = plan
  variables {
    cpu           = 256
    memory        = 1024
    allowed_cidrs = [for index in range(30) : "203.0.113.${index}/32"]
    max_tasks     = 240
    queue_target  = 16
    settings      = { CAPTIONIST_MAX_QUEUE = "128", CAPTIONIST_TRACES = "false" }
  }
  assert {
    condition     = aws_ecs_task_definition.this.cpu == "256" && aws_ecs_task_definition.this.memory == "1024"
    error_message = "The task must be of the size that was asked for."
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.clients) == 60 && aws_appautoscaling_target.this.max_capacity == 240
    error_message = "All networks must be let in, and as many tasks be allowed as were asked for."
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
