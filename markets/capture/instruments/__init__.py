"""The venues' lists of instruments: today's, and what they said on each day before."""
