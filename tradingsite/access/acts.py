"""What a person may be allowed to do: one permission an act, and a group that has them all.

Being of the staff opens the admin and nothing else.
"""

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin

OWNER_GROUP = "owner"
ACTS = {
    "halt": "Halt bots",
    "flatten": "Let bots close what they hold",
    "resume": "Let halted bots trade again",
    "switch_model": "Let another model trade",
    "adopt": "Say what a difference is",
    "give_up": "Say what became of an unknown order",
    "sign_in_broker": "Sign in at the broker",
    "pin_account": "Change the account the desk trades in",
    "resolve_notice": "Mark notices as over",
}


def may(user: AbstractBaseUser | AnonymousUser, act: str) -> bool:
    """Return whether a person may do one of `ACTS`; raise KeyError for any other."""
    ACTS[act]
    return isinstance(user, PermissionsMixin) and user.has_perm(f"access.{act}")
