"""The account at the broker that the desk trades in, and the change to another one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from django.http import HttpRequest, HttpResponse

from markets.capture import token_refresh
from monitoring.dashboard import acts, confirm
from monitoring.dashboard.acts import Act, Field, Said
from monitoring.dashboard.broker import WARN

ACCOUNT = re.compile(r"[A-Za-z0-9]{3,20}")


@confirm.guarded("pin_account")
def change_account(request: HttpRequest) -> HttpResponse:
    """Ask in which account the desk is to trade; by POST, pin it."""
    pinned = token_refresh.pinned_account()
    act = Act(
        "Trade in another account?",
        "The desk takes the broker's token of one account only, that of its first login. After the "
        "change nothing is read or ordered until somebody signs in to the new one. Positions in "
        "the old account stay there, and the ledger still has them: halt the bots first.",
        "Change the account",
        (("Now", pinned or "none yet"),),
        fields=(Field("account", "The new account", "", "as the broker writes it", False),),
        seen=pinned,
        here="broker",
    )

    def carry_out() -> Sequence[Said]:
        account = request.POST.get("account", "").strip().upper()
        if not ACCOUNT.fullmatch(account):
            raise ValueError("an account is 3 to 20 letters and digits; nothing was changed")
        token_refresh.pin_account(account, acts.person(request))
        return [Said(WARN, f"The desk trades in {account} from its next login on. Sign in now.")]

    return acts.confirmed(request, act, carry_out)
