mock_provider "aws" {
  source = "./tests/mocks"
}

# Most runs are wrong in several variables, and each of them must say so.

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

run "a_region_that_does_not_exist" {
  command = plan

  variables {
    region             = "us-wset-2"
    vpc_cidr           = "10.64.0.0"
    api_cidrs          = ["0.0.0.0/0"]
    budget             = { monthly_usd = 0, emails = ["team@example.org"] }
    destroy_buckets    = ["videos"]
    environment        = "staging"
    kubernetes_version = "33"
    secrets_version    = 0
    addons             = ["vpc cni"]
  }

  expect_failures = [
    var.region,
    var.vpc_cidr,
    var.api_cidrs,
    var.budget,
    var.destroy_buckets,
    var.environment,
    var.kubernetes_version,
    var.secrets_version,
    var.addons,
  ]
}

run "one_zone" {
  command = plan

  variables {
    zones              = ["us-west-2a"]
    vpc_cidr           = "10.64.0.0/24"
    api_cidrs          = ["office"]
    budget             = { monthly_usd = 100, emails = [] }
    lustre             = { storage_gib = 2000 }
    noncurrent_days    = 0
    log_retention_days = 10
  }

  expect_failures = [
    var.zones,
    var.vpc_cidr,
    var.api_cidrs,
    var.budget,
    var.lustre,
    var.noncurrent_days,
    var.log_retention_days,
  ]
}

run "a_zone_of_another_region" {
  command = plan

  variables {
    zones           = ["us-west-2a", "eu-west-1b"]
    budget          = { monthly_usd = 100, emails = ["team"] }
    lustre          = { storage_gib = 2400, mbps_per_tib = 300 }
    admin_role_arns = ["arn:aws:iam::123456789012:user/me"]
    aws_endpoint    = "http://example.org:80"
  }

  expect_failures = [
    var.zones,
    var.budget,
    var.lustre,
    var.admin_role_arns,
    var.aws_endpoint,
  ]
}

run "no_gpu_node_where_gpus_are_asked" {
  command = plan

  variables {
    gpu_nodes = { max = 0, zone = "us-west-2a" }
    cpu_nodes = { instance_types = ["m6i.2xlarge"], min = 0, max = 4 }
  }

  expect_failures = [
    var.gpu_nodes,
    var.cpu_nodes,
  ]
}

run "half_a_gpu_node" {
  command = plan

  variables {
    gpu_nodes = { max = 1.5, zone = "us-west-2a" }
    cpu_nodes = { instance_types = ["m6i.2xlarge"], min = 5, max = 4 }
  }

  expect_failures = [
    var.gpu_nodes,
    var.cpu_nodes,
  ]
}

run "gpus_outside_the_network" {
  command = plan

  variables {
    gpu_nodes = { max = 1, zone = "us-west-2d" }
    databases = { instance_class = "db.t4g.medium", storage_gib = 20, multi_az = false, deletion_protection = false, backup_days = 0 }
  }

  expect_failures = [
    var.gpu_nodes,
    var.databases,
  ]
}

run "a_machine_without_h100" {
  command = plan

  variables {
    gpu_nodes = { max = 1, zone = "us-west-2a", instance_type = "g5.xlarge" }
  }

  expect_failures = [var.gpu_nodes]
}

run "a_block_without_its_number" {
  command = plan

  variables {
    gpu_nodes = { max = 1, zone = "us-west-2a", purchase = "capacity-block" }
  }

  expect_failures = [var.gpu_nodes]
}

run "spot_machines_with_a_reservation" {
  command = plan

  variables {
    gpu_nodes = { max = 1, zone = "us-west-2a", purchase = "spot", reservation_id = "cr-0" }
  }

  expect_failures = [var.gpu_nodes]
}

run "an_unknown_purchase" {
  command = plan

  variables {
    gpu_nodes = { max = 1, zone = "us-west-2a", purchase = "lease" }
  }

  expect_failures = [var.gpu_nodes]
}
