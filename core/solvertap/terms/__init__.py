"""What is summed over steps: terms, samples, schedules, presets, and terms as text."""
