"""What must be true before money moves, asked of the settings and of the running desk."""
