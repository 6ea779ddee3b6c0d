"""What the command benchmark measures: one module a benchmark, and the table of them."""
