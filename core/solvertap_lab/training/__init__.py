"""Training one problem: the frameworks that do, the methods, and what came of a run."""
