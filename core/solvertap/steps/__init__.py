"""What a solver did between two times: arrays, tableau, stages, the step, and the formulas E and S."""
