"""The environment, the algorithm and what is learned with them."""
