# dev: one NAT gateway, small databases, no GPU until one is asked for. Region, zones and budget are
# the team's to say, in a file of its own.
environment  = "dev"
nat_per_zone = false

cpu_nodes = {
  instance_types = ["m6i.2xlarge", "m5.2xlarge"]
  min            = 1
  max            = 4
}

databases = {
  instance_class      = "db.t4g.medium"
  storage_gib         = 20
  multi_az            = false
  deletion_protection = false
  backup_days         = 7
  rotation_days       = 90 # then restart the services: infra/kubernetes/README.md
}
