"""What an adapter is made of: where it taps its library, and how it is tried."""
