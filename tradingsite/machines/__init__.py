"""The way between the machines: ssh, whole folders, and what PC wants told."""
