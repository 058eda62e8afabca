# One IAM role per service account, which no other pod can take.

data "aws_partition" "current" {}

locals {
  host   = trimprefix(var.issuer, "https://")
  owned  = { for role, account in var.accounts : role => account if account.managed_policy == null }
  bought = { for role, account in var.accounts : role => account if account.managed_policy != null }
}

resource "aws_iam_role" "account" {
  for_each = var.accounts

  name = "${var.name}-${each.key}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRoleWithWebIdentity"
      Principal = { Federated = var.provider_arn }
      Condition = {
        StringEquals = {
          "${local.host}:aud" = "sts.amazonaws.com"
          "${local.host}:sub" = "system:serviceaccount:${each.value.namespace}:${each.value.service_account}"
        }
      }
    }]
  })
}

resource "aws_iam_role_policy" "account" {
  for_each = local.owned

  name = "needs"
  role = aws_iam_role.account[each.key].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      for statement in each.value.statements : merge(
        { Effect = "Allow", Action = statement.actions, Resource = statement.resources },
        length(statement.tags) == 0 ? {} : {
          Condition = { StringEquals = { for key, value in statement.tags : "aws:ResourceTag/${key}" => value } }
        },
      )
    ]
  })
}

resource "aws_iam_role_policy_attachment" "account" {
  for_each = local.bought

  role       = aws_iam_role.account[each.key].name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/${each.value.managed_policy}"
}
