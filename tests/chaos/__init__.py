"""Break a running desk in every way that was ever done to one: `make chaos`."""
