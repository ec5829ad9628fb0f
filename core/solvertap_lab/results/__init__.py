"""What came of a comparison, as a file, a table and pictures."""
