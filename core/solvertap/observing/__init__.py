"""Who asks: `observe`, `regularize`, and the door through which adapters open a solve."""
