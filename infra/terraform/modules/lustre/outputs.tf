output "mount" {
  description = "What a Kubernetes persistent volume of the FSx driver names."
  value = {
    file_system_id = aws_fsx_lustre_file_system.this.id
    dns_name       = aws_fsx_lustre_file_system.this.dns_name
    mount_name     = aws_fsx_lustre_file_system.this.mount_name
  }
}
