"""Which recipe may trade: walk forward, its records, and demotion of what does worse."""
