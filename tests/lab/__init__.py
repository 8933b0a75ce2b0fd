"""PROD and PC as two machines: namespaces of one, with their own networks, servers and workers."""
