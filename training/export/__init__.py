"""Export of trained policies to files."""
