"""Events that a package to the right must hear of, without being named by the one to the left."""

from django.dispatch import Signal

# Sent with `market` when a market's generated history gives way to imported bars: whatever was
# learned or traded on it must go.
market_replaced = Signal()

# Sent with `market`, `timeframe`, `first` and `last`, epoch seconds of opens, when bars that may
# have been learned from are removed; each receiver returns what it withdrew, in words, to be shown.
bars_removed = Signal()
