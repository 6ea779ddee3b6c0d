"""What a run would need on machines that are not there: the real programs, compiled and read."""
