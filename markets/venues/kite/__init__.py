"""The broker Zerodha through kiteconnect: orders, account, sign-in, prices and ticks. Pure."""
