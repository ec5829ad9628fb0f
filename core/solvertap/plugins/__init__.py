"""The hooks, the registry of plugins, and the adapters that are attached."""
