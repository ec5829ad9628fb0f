"""What makes up an adapter: its patches, and its trial problem."""
