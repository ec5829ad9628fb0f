"""`solvertap reproduce`: the table of the paper, in every framework."""
