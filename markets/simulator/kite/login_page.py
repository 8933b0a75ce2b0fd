"""The simulated broker's login page for people: a form, and what it says when it is refused.

The page tells its own credentials, code included: they open nothing but the simulator, and nobody
can work out a TOTP in their head.
"""

from __future__ import annotations

from html import escape

from aiohttp import web

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Simulated broker: sign in</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 24rem; margin: 12vh auto;
  padding: 0 1rem }}
label {{ display: block; margin-top: 1rem }}
input, button {{ box-sizing: border-box; width: 100%; padding: .6rem; font: inherit }}
button {{ margin-top: 1.5rem }}
.wrong {{ font-weight: 600 }}
</style></head><body>
<h1>Simulated broker</h1>
<p>No real account is behind this page. User <code>{user}</code>, password
<code>{password}</code>, code at this moment <code>{code}</code>.</p>
{wrong}<form method="post" action="/connect/login">
<input type="hidden" name="sess_id" value="{sess_id}">
<label>User <input name="user_id" autocomplete="username" required autofocus></label>
<label>Password <input name="password" type="password" autocomplete="current-password" required>
</label>
<label>Code <input name="totp" inputmode="numeric" autocomplete="one-time-code" required></label>
<button>Sign in</button>
</form></body></html>
"""
_REDESIGNED = """<!doctype html>
<html lang="en"><head><title>A new way to sign in</title></head>
<body><div id="root" data-build="2"></div></body></html>
"""


def form(*, sess_id: str, user: str, password: str, code: str, wrong: str = "") -> web.Response:
    """Return the form, with the reason above it when what came before was refused."""
    text = _PAGE.format(
        sess_id=escape(sess_id),
        user=escape(user),
        password=escape(password),
        code=escape(code),
        wrong=f'<p class="wrong" role="alert">{escape(wrong)}</p>\n' if wrong else "",
    )
    return web.Response(text=text, status=403 if wrong else 200, content_type="text/html")


def redesigned() -> web.Response:
    """Return what a script gets on the day when the broker changes its pages."""
    return web.Response(text=_REDESIGNED, content_type="text/html")
