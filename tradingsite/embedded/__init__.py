"""PostgreSQL and Valkey for a machine that has none of its own."""
