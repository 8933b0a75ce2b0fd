"""Files of bars and series as people have them: recognised by content, read into one table."""
