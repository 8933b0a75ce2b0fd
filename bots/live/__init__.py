"""The loop of a bot: when a bar is due, which model decides, what its slots are worth."""
