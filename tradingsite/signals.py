"""Events that a package to the right must hear of, without being named by the one to the left."""

from django.dispatch import Signal

# Sent with `market` when a market's generated history gives way to imported bars: whatever was
# learned or traded on it must go.
market_replaced = Signal()

# Sent with `market`, `timeframe`, `first` and `last`, epoch seconds of opens, when bars that may
# have been learned from are removed; each receiver returns what it withdrew, in words.
bars_removed = Signal()

# Sent with `slot`, `run_id` and `destination`, a folder: whoever has the run's bundle puts it there
# and returns True.
bundle_wanted = Signal()

# Sent with `slot`: whoever keeps bundles returns the runs whose it has.
bundles_counted = Signal()

# Sent with `market` and `trade_ids`, the venue's executions of which some may be the bots' own;
# each receiver returns the set of those that it knows to be.
executions_named = Signal()
