"""Why a solve takes the steps it takes: one small function of its trace for each illness."""
