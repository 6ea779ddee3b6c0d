"""Tokenised corpus in, global batches out."""
