"""The processes of a run: found, joined, watched, ended together."""
