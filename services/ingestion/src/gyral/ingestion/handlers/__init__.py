"""What happens to requests with rows or markers."""
