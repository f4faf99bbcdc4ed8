"""What tests need and services must not: builders, fakes, real back ends and shared suites."""
