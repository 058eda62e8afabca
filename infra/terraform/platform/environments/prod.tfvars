# prod: a zone may fail, databases cannot be deleted by mistake, replaced objects stay for a quarter.
environment  = "prod"
nat_per_zone = true

cpu_nodes = {
  instance_types = ["m6i.4xlarge", "m5.4xlarge"]
  min            = 2
  max            = 16
}

databases = {
  instance_class      = "db.m6g.large"
  storage_gib         = 100
  multi_az            = true
  deletion_protection = true
  backup_days         = 30
  rotation_days       = 90 # then restart the services: infra/kubernetes/README.md
}

noncurrent_days = 90
