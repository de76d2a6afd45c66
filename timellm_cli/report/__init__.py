"""What people see: tables, progress, records and pictures."""
