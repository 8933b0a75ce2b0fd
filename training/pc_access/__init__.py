"""What PC reaches PROD by: a database role and a user of the queue, and nothing else."""
