"""Using a model on text: ids and masks from strings, batches by length, fill-mask, embeddings."""
