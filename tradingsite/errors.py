"""Errors named by the reaction they ask for: whoever catches one knows what to do next."""


class Retry(Exception):
    """Ask the caller to try again later: nothing was lost and nothing was half done."""


class Degraded(Exception):
    """Ask the caller to go on with less (hold the position, keep the old model) and to say so."""


class StopTrading(Exception):
    """Ask the caller to take no new risk until a person has looked."""
