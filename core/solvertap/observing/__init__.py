"""Who observes: `observe`, `regularize`, and `open_solve`, by which adapters reach them."""
