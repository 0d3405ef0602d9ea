"""What a run leaves in its folder: its files, its checkpoints, its networks."""
