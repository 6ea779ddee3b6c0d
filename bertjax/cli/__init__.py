"""What the commands share: parsing, printing, progress."""
