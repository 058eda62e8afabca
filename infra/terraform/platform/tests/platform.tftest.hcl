mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  environment  = "dev"
  region       = "us-west-2"
  zones        = ["us-west-2a", "us-west-2b"]
  nat_per_zone = false
  cpu_nodes    = { instance_types = ["m6i.2xlarge"], min = 1, max = 4 }
  gpu_nodes    = { max = 2, zone = "us-west-2b" }
  budget       = { monthly_usd = 5000, emails = ["team@example.org"] }
  databases = {
    instance_class      = "db.t4g.medium"
    storage_gib         = 20
    multi_az            = false
    deletion_protection = false
    backup_days         = 7
  }
}

run "everything" {
  variables {
    lustre          = { storage_gib = 1200 }
    destroy_buckets = ["raw"]
  }

  assert {
    condition     = toset(keys(output.profile.buckets)) == toset(["checkpoints", "dvc", "mlflow", "raw"])
    error_message = "four buckets"
  }

  assert {
    condition     = output.profile.gpu.efa_interfaces == 32 && output.profile.gpu.max_nodes == 2
    error_message = "the profile says what a GPU node has"
  }

  assert {
    condition     = toset(keys(output.profile.roles)) == toset(["cluster-autoscaler", "mlflow", "prefect-server", "stages"])
    error_message = "one role per service account"
  }

  # least privilege: what changes something names what it changes
  assert {
    condition = alltrue(flatten([
      for role, policy in module.access[0].policies : [
        for statement in jsondecode(policy).Statement : alltrue([
          for action in statement.Action : length(regexall("\\*", action)) == 0
        ])
      ]
    ]))
    error_message = "no action is a pattern"
  }

  assert {
    condition = alltrue(flatten([
      for role, policy in module.access[0].policies : [
        for statement in jsondecode(policy).Statement :
        !contains(statement.Resource, "*") || can(statement.Condition.StringEquals) || alltrue([
          for action in statement.Action : can(regex("^(autoscaling|ec2):(Describe|GetInstanceTypes)", action))
        ])
      ]
    ]))
    error_message = "a policy on all resources only describes, or is bound to tagged ones"
  }

  assert {
    condition = toset(flatten([
      for statement in jsondecode(module.access[0].policies["prefect-server"]).Statement : statement.Action
    ])) == toset(["kms:Decrypt", "secretsmanager:GetSecretValue"])
    error_message = "the Prefect server reads its secrets and no bucket"
  }

  assert {
    condition     = module.budget[0].alarms.at == tolist(["ACTUAL at 100", "ACTUAL at 50", "ACTUAL at 80", "FORECASTED at 100"])
    error_message = "alarms at half, four fifths and all of the budget, and when it will be passed"
  }

  assert {
    condition     = module.budget[0].alarms.emails == tolist(["team@example.org"])
    error_message = "the alarm goes to the team"
  }
}

run "values_of_another_environment_are_refused" {
  command = plan

  variables {
    environment = "prod"
  }

  expect_failures = [terraform_data.environment]
}

run "storage_stays_when_compute_goes" {
  variables {
    compute = false
  }

  assert {
    condition     = length(module.cluster) + length(module.network) + length(module.tracking) + length(module.secrets) + length(module.access) == 0
    error_message = "no compute asked, none described"
  }

  assert {
    condition     = length(output.profile.buckets) == 4 && length(output.profile.images) == 3 && output.profile.cluster.name == null
    error_message = "buckets and images stay"
  }
}

run "a_capacity_block" {
  command = plan

  variables {
    gpu_nodes = { max = 8, zone = "us-west-2a", purchase = "capacity-block", reservation_id = "cr-0123456789abcdef0" }
  }

  assert {
    condition     = output.profile.gpu.purchase == "capacity-block"
    error_message = "the plan holds"
  }
}
