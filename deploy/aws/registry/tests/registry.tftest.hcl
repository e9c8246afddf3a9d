mock_provider "aws" {}

run "two_repositories" {
  command = plan
  assert {
    condition     = toset(values(aws_ecr_repository.this)[*].name) == toset(["captionist", "captionist-collector"])
    error_message = "The service and the collector must each have a repository."
  }
  assert {
    condition     = alltrue([for repository in aws_ecr_repository.this : repository.image_tag_mutability == "IMMUTABLE" && repository.image_scanning_configuration[0].scan_on_push && !repository.force_delete])
    error_message = "Tags must stay what they are, images be scanned, and repositories not deleted with their images."
  }
}

run "a_name_with_capitals" {
  command = plan
  variables {
    name = "Captionist"
  }
  expect_failures = [var.name]
}

run "a_region_that_is_none" {
  command = plan
  variables {
    region = "here"
  }
  expect_failures = [var.region]
}

run "no_image_to_roll_back_to" {
  command = plan
  variables {
    keep = 1
  }
  expect_failures = [var.keep]
}
