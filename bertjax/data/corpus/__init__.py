"""Documents in, tokenised corpus out."""
