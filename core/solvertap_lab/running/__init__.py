"""Who trains the runs of a comparison: this process, several on this machine, or a cluster."""
