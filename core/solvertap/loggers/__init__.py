"""Observers that write down what solves cost: one small module for each place to write to, imported by name."""
