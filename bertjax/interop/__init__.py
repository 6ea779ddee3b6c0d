"""Exchange with other implementations: model folders in the Hugging Face layout, in and out."""
