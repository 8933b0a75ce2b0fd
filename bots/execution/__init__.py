"""From wanted lots to booked fills: the order protocol, its ledger, and who owns what."""
