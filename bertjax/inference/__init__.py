"""Models applied to text: strings to ids and masks, batches by length, and a function for each task."""
