# What each service account may do, and nothing else. The names are those of infra/kubernetes.

locals {
  namespace = "reelforge"
  buckets   = module.storage.bucket_arns
  use_key = {
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [module.storage.kms_key_arn]
  }
  list_only  = ["s3:GetBucketLocation", "s3:ListBucket"]
  read_write = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject"]
}

module "access" {
  source = "../modules/access"
  count  = local.compute

  name         = local.name
  provider_arn = module.cluster[0].provider_arn
  issuer       = module.cluster[0].issuer
  accounts = {
    stages = { # raw video is read and never changed
      namespace       = local.namespace
      service_account = "stages"
      statements = [
        { actions = local.list_only, resources = [for use in ["raw", "dvc", "checkpoints"] : local.buckets[use]] },
        { actions = ["s3:GetObject"], resources = ["${local.buckets["raw"]}/*"] },
        { actions = local.read_write, resources = [for use in ["dvc", "checkpoints"] : "${local.buckets[use]}/*"] },
        local.use_key,
      ]
    }
    mlflow = { # serves the artifacts, so stages need no access to them
      namespace       = local.namespace
      service_account = "mlflow"
      statements = [
        { actions = local.list_only, resources = [local.buckets["mlflow"]] },
        { actions = local.read_write, resources = ["${local.buckets["mlflow"]}/*"] },
        { actions = ["secretsmanager:GetSecretValue"], resources = [
          module.tracking[0].databases["mlflow"].secret_arn,
          module.secrets[0].arns["mlflow-admin"],
          module.secrets[0].arns["mlflow-cookie"],
        ] },
        local.use_key,
      ]
    }
    prefect-server = {
      namespace       = local.namespace
      service_account = "prefect-server"
      statements = [
        { actions = ["secretsmanager:GetSecretValue"], resources = [
          module.tracking[0].databases["prefect"].secret_arn,
          module.secrets[0].arns["prefect-api"],
        ] },
        { actions = ["kms:Decrypt"], resources = [module.storage.kms_key_arn] },
      ]
    }
    cluster-autoscaler = {
      namespace       = "kube-system"
      service_account = "cluster-autoscaler"
      statements = [
        { # AWS takes no narrower resource for these
          actions = [
            "autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances",
            "autoscaling:DescribeLaunchConfigurations", "autoscaling:DescribeScalingActivities", "autoscaling:DescribeTags",
            "ec2:DescribeImages", "ec2:DescribeInstanceTypes", "ec2:DescribeLaunchTemplateVersions",
            "ec2:GetInstanceTypesFromInstanceRequirements",
          ]
          resources = ["*"]
        },
        {
          actions   = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
          resources = ["*"]
          tags      = { "k8s.io/cluster-autoscaler/${local.name}" = "owned" }
        },
        { # labels and taints of an empty group
          actions   = ["eks:DescribeNodegroup"]
          resources = ["arn:aws:eks:${var.region}:${data.aws_caller_identity.current.account_id}:nodegroup/${local.name}/*"]
        },
      ]
    }
  }
}
