"""For tests: `-p solvertap.testing.everywhere` observes every solve of a test suite that knows nothing of it."""
