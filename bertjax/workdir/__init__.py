"""A run's folder on disk: whose it is, what it holds, how it is read."""
