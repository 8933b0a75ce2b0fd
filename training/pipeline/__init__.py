"""The seven steps from PROD's bars to a model that trades, across two machines."""
