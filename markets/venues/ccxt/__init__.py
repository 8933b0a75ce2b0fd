"""Crypto exchanges through the unified methods of ccxt."""
