"""Events that a package to the right must hear of, without being named by the one to the left."""

from django.dispatch import Signal

# Sent with `market` when a market's generated history gives way to imported bars: whatever was
# learned or traded on it must go.
market_replaced = Signal()

# Sent with `market` and `trade_ids`, the venue's executions of which some may be the bots' own;
# each receiver returns the set of those that it knows to be.
executions_named = Signal()
