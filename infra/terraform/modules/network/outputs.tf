output "vpc_id" {
  description = "The network."
  value       = aws_vpc.this.id
}

output "private_subnets" {
  description = "Zone -> private subnet id."
  value       = { for zone, subnet in aws_subnet.private : zone => subnet.id }

  # nothing starts in a subnet before it has a way out
  depends_on = [aws_route.nat, aws_route_table_association.private]
}
