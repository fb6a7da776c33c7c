"""From images without labels to labels."""
