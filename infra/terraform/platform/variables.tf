# What an environment is made of. environments/NAME.tfvars sets what dev and prod differ in; a team sets region, zones,
# GPUs and budget in a file of its own.

variable "environment" {
  description = "Which of the two: part of every name."
  type        = string

  validation {
    condition     = contains(["dev", "prod"], var.environment)
    error_message = "environment is dev or prod."
  }
}

variable "region" {
  description = "AWS region; H100 machines are sold in some of them only."
  type        = string

  validation {
    condition = contains([
      "af-south-1", "ap-east-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2",
      "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ca-central-1", "ca-west-1",
      "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3",
      "il-central-1", "me-central-1", "me-south-1", "sa-east-1", "us-east-1", "us-east-2", "us-west-1", "us-west-2",
    ], var.region)
    error_message = "\"${var.region}\" is no region of AWS; it looks like us-west-2."
  }
}

variable "zones" {
  description = "Availability zones of the region, at least two; append only, their order fixes their addresses."
  type        = list(string)

  validation {
    condition = length(var.zones) >= 2 && length(distinct(var.zones)) == length(var.zones) && alltrue([
      for zone in var.zones : can(regex("^${var.region}[a-z]$", zone))
    ])
    error_message = "zones must be two or more different zones of ${var.region}, such as ${var.region}a."
  }
}

variable "compute" {
  description = "False takes network, cluster and databases down (leaving final snapshots) and keeps buckets, key and images."
  type        = bool
  default     = true
}

variable "vpc_cidr" {
  description = "Addresses of the network, /16 to /18, overlapping no network that it will be connected to."
  type        = string
  default     = "10.64.0.0/16"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0)) && try(contains(range(16, 19), tonumber(split("/", var.vpc_cidr)[1])), false)
    error_message = "vpc_cidr \"${var.vpc_cidr}\" must be an IPv4 block of /16 to /18, such as 10.64.0.0/16."
  }
}

variable "nat_per_zone" {
  description = "One NAT gateway per zone (a zone may fail) instead of one for all (cheaper)."
  type        = bool
}

variable "api_cidrs" {
  description = "Public addresses (an office, a VPN) that may reach the Kubernetes API; none leaves it private."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for cidr in var.api_cidrs : can(cidrhost(cidr, 0)) && try(tonumber(split("/", cidr)[1]) >= 8, false)
    ])
    error_message = "api_cidrs must be blocks such as 203.0.113.7/32, none wider than /8: the API is not for everybody."
  }
}

variable "admin_role_arns" {
  description = "IAM roles that administer the cluster; none makes whoever applies this its administrator."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.admin_role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/", arn))])
    error_message = "admin_role_arns must be ARNs of roles: arn:aws:iam::123456789012:role/NAME."
  }
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes; upgrade one minor version at a time."
  type        = string
  default     = "1.33"

  validation {
    condition     = can(regex("^1\\.(3[0-9]|4[0-9])$", var.kubernetes_version))
    error_message = "kubernetes_version is a minor version such as 1.33."
  }
}

variable "addons" {
  description = "EKS add-ons. Without vpc-cni and kube-proxy no node becomes ready."
  type        = set(string)
  default     = ["aws-ebs-csi-driver", "aws-fsx-csi-driver", "coredns", "eks-node-monitoring-agent", "kube-proxy", "vpc-cni"]

  validation {
    condition     = alltrue([for name in var.addons : can(regex("^[a-z0-9-]+$", name))])
    error_message = "addons are names of EKS add-ons, such as vpc-cni."
  }
}

variable "cpu_nodes" {
  description = "The group that holds services and CPU stages."
  type = object({
    instance_types = list(string)
    min            = number
    max            = number
    disk_gib       = optional(number, 100)
  })

  validation {
    condition     = length(var.cpu_nodes.instance_types) > 0 && var.cpu_nodes.min >= 1 && var.cpu_nodes.max >= var.cpu_nodes.min
    error_message = "cpu_nodes needs an instance type and 1 <= min <= max: the services run there."
  }
}

variable "gpu_nodes" {
  description = <<-TEXT
    The GPU group, which starts empty; null for none. `purchase` is on-demand, spot or capacity-block; `reservation_id`
    names the capacity block, or a reservation of on-demand machines; `placement_group` is on unless they have one.
  TEXT
  type = object({
    instance_type   = optional(string, "p5.48xlarge")
    max             = number
    zone            = string
    purchase        = optional(string, "on-demand")
    reservation_id  = optional(string)
    placement_group = optional(bool)
    disk_gib        = optional(number, 500)
  })
  default = null

  validation {
    condition     = var.gpu_nodes == null ? true : contains(["p5.48xlarge", "p5e.48xlarge", "p5en.48xlarge"], var.gpu_nodes.instance_type)
    error_message = "gpu_nodes.instance_type is p5.48xlarge (8 x H100), p5e.48xlarge or p5en.48xlarge (8 x H200)."
  }

  validation {
    condition     = var.gpu_nodes == null ? true : var.gpu_nodes.max >= 1 && var.gpu_nodes.max <= 64 && floor(var.gpu_nodes.max) == var.gpu_nodes.max
    error_message = "gpu_nodes.max must be 1 to 64 machines; for a cluster without GPUs set gpu_nodes to null."
  }

  validation {
    condition     = var.gpu_nodes == null ? true : contains(var.zones, var.gpu_nodes.zone)
    error_message = "gpu_nodes.zone must be one of zones."
  }

  validation {
    condition     = var.gpu_nodes == null ? true : contains(["on-demand", "spot", "capacity-block"], var.gpu_nodes.purchase)
    error_message = "gpu_nodes.purchase is on-demand, spot or capacity-block."
  }

  validation {
    condition = var.gpu_nodes == null ? true : (
      var.gpu_nodes.purchase == "capacity-block" ? can(regex("^cr-[0-9a-f]+$", var.gpu_nodes.reservation_id)) :
      var.gpu_nodes.purchase == "spot" ? var.gpu_nodes.reservation_id == null : true
    )
    error_message = "A capacity block needs its gpu_nodes.reservation_id (cr-...), and spot machines cannot have one."
  }
}

variable "lustre" {
  description = "A parallel file system beside the GPUs: GiB (1200 or a multiple of 2400) and MB/s per TiB; null for none."
  type = object({
    storage_gib  = number
    mbps_per_tib = optional(number, 250)
  })
  default = null

  validation {
    condition = var.lustre == null ? true : var.lustre.storage_gib == 1200 || (
      var.lustre.storage_gib >= 2400 && var.lustre.storage_gib % 2400 == 0
    )
    error_message = "lustre.storage_gib must be 1200 or a multiple of 2400: FSx sells no other size."
  }

  validation {
    condition     = var.lustre == null ? true : contains([125, 250, 500, 1000], var.lustre.mbps_per_tib)
    error_message = "lustre.mbps_per_tib is 125, 250, 500 or 1000."
  }
}

variable "databases" {
  description = "Size and safety of the databases of MLflow and Prefect; after `rotation_days` their passwords change (null: 7)."
  type = object({
    instance_class      = string
    storage_gib         = number
    multi_az            = bool
    deletion_protection = bool
    backup_days         = number
    rotation_days       = optional(number)
  })

  validation {
    condition     = var.databases.storage_gib >= 20 && var.databases.backup_days >= 1 && var.databases.backup_days <= 35
    error_message = "databases needs at least 20 GiB and 1 to 35 days of backups: RDS has no other, and none is too few."
  }

  validation {
    condition     = var.databases.rotation_days == null ? true : var.databases.rotation_days >= 1 && var.databases.rotation_days <= 1000
    error_message = "databases.rotation_days must be 1 to 1000, or null for the seven of RDS."
  }
}

variable "destroy_buckets" {
  description = "Buckets that may be destroyed with what is in them; a full bucket that is not named refuses to go."
  type        = set(string)
  default     = []

  validation {
    condition     = length(setsubtract(var.destroy_buckets, ["checkpoints", "dvc", "mlflow", "raw"])) == 0
    error_message = "destroy_buckets names some of raw, dvc, mlflow, checkpoints."
  }
}

variable "noncurrent_days" {
  description = "How long a replaced or deleted object can be brought back."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1 && var.noncurrent_days <= 3650
    error_message = "noncurrent_days must be 1 to 3650."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  default     = 365

  validation {
    condition     = contains([30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 3653], var.log_retention_days)
    error_message = "log_retention_days must be a period that CloudWatch has: 30, 60, 90, 120, 150, 180, 365, 400, ..."
  }
}

variable "secrets_version" {
  description = "Raise it to draw new passwords for MLflow and Prefect."
  type        = number
  default     = 1

  validation {
    condition     = var.secrets_version >= 1
    error_message = "secrets_version counts from 1."
  }
}

variable "budget" {
  description = "What the account may spend in a month, and who is told at 50, 80 and 100 % of it; null where it is kept elsewhere."
  type = object({
    monthly_usd = number
    emails      = list(string)
  })

  validation {
    condition     = var.budget == null ? true : var.budget.monthly_usd > 0
    error_message = "budget.monthly_usd must be above 0."
  }

  validation {
    condition = var.budget == null ? true : length(var.budget.emails) > 0 && alltrue([
      for email in var.budget.emails : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", email))
    ])
    error_message = "budget.emails needs at least one address such as team@example.org: an alarm that nobody gets is none."
  }
}

variable "aws_endpoint" {
  description = "An emulator of AWS on this machine, for tests; null is AWS."
  type        = string
  default     = null

  validation {
    condition     = var.aws_endpoint == null ? true : can(regex("^http://(127\\.0\\.0\\.1|localhost):[0-9]+$", var.aws_endpoint))
    error_message = "aws_endpoint is for an emulator on this machine: http://127.0.0.1:PORT."
  }
}
