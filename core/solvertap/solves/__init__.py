"""One solve: its request, its fold, its counts, its trace, and the penalty that its solution carries."""
