"""The form of every answer of the simulated broker: its envelope, its errors, its JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class KiteError(Exception):
    """An answer that is an error: its HTTP status, its type by the broker's names, its message."""

    def __init__(self, status: int, error_type: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error_type = error_type
        self.message = message


def bad_input(message: str) -> KiteError:
    """Return the error of a request with missing or wrong parameters."""
    return KiteError(400, "InputException", message)


def answer(data: Any) -> web.Response:
    """Return data in the envelope of success."""
    return _json({"status": "success", "data": data}, 200)


def refusal(error: KiteError) -> web.Response:
    """Return an error in its envelope."""
    body = {"status": "error", "message": error.message, "error_type": error.error_type}
    return _json({**body, "data": None}, error.status)


def csv(text: str) -> web.Response:
    """Return a list as the broker sends it: CSV, gzipped for whoever takes that."""
    response = web.Response(body=text.encode(), content_type="text/csv")
    response.enable_compression()
    return response


@web.middleware
async def enveloped(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn errors into the broker's envelope, also those of a wrong route or method."""
    try:
        return await handler(request)
    except KiteError as error:
        return refusal(error)
    except web.HTTPNotFound:
        return refusal(KiteError(404, "GeneralException", "Route not found"))
    except web.HTTPMethodNotAllowed:
        return refusal(KiteError(405, "GeneralException", "Method not allowed"))
    except web.HTTPException:
        raise
    except Exception:
        log.exception("the simulated broker failed at %s %s", request.method, request.path)
        return refusal(KiteError(500, "GeneralException", "Something unexpected happened"))


def _json(body: Any, status: int) -> web.Response:
    text = json.dumps(body, separators=(",", ":"), allow_nan=False)
    # As bytes, for a text would add its charset, and clients compare the whole type.
    return web.Response(body=text.encode(), status=status, content_type="application/json")
