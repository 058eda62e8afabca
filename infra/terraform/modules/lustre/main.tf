# A parallel file system for latents and checkpoints while training runs. What must last is in the buckets.

resource "aws_security_group" "this" {
  name        = "${var.name}-lustre"
  description = "Lustre: the nodes and the file servers among themselves"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "lustre" {
  for_each = {
    for pair in setproduct(["nodes", "servers"], [[988, 988], [1018, 1023]]) :
    "${pair[0]}-${pair[1][0]}" => { peer = pair[0], from = pair[1][0], to = pair[1][1] }
  }

  security_group_id            = aws_security_group.this.id
  description                  = "Lustre from ${each.value.peer}"
  ip_protocol                  = "tcp"
  from_port                    = each.value.from
  to_port                      = each.value.to
  referenced_security_group_id = each.value.peer == "nodes" ? var.node_security_group_id : aws_security_group.this.id
}

resource "aws_vpc_security_group_egress_rule" "servers" {
  security_group_id            = aws_security_group.this.id
  description                  = "File servers among themselves"
  ip_protocol                  = "-1"
  referenced_security_group_id = aws_security_group.this.id
}

resource "aws_fsx_lustre_file_system" "this" {
  deployment_type             = "PERSISTENT_2"
  storage_type                = "SSD"
  storage_capacity            = var.storage_gib
  per_unit_storage_throughput = var.mbps_per_tib
  data_compression_type       = "NONE" # latents and video do not shrink
  subnet_ids                  = [var.subnet_id]
  security_group_ids          = [aws_security_group.this.id]
  kms_key_id                  = var.kms_key_arn
  tags                        = { Name = var.name }
}
