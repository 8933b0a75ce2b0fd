"""Bars from the venues, each minute and by backfill, and the gaps that are left."""
