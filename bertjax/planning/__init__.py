"""What a run would need on machines that need not be present: the real programs, compiled and read."""
