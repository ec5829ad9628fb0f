"""What a problem is, those of the papers, and how one is found by its name."""
