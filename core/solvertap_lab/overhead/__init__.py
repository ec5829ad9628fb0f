"""What observing costs: training steps observed and bare, as ratios in one run. `make bench` prints the table."""
