"""Observers that log what solves cost: one module for each place to log to, imported by name."""
