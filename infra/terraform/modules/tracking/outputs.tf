output "databases" {
  description = "Service -> where its database is and which secret holds user and password."
  value = {
    for service, database in aws_db_instance.this : service => {
      host       = database.address
      port       = database.port
      database   = database.db_name
      secret_arn = database.master_user_secret[0].secret_arn
    }
  }
}
