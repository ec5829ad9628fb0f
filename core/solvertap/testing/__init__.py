"""For tests: `-p solvertap.testing.everywhere` observes every solve of an unchanged test suite."""
