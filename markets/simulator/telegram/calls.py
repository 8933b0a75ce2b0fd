"""One call of a method as it comes over the wire, and the refusal that may answer it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web


class Refused(Exception):
    """Telegram says no: a code, a description, and after how many seconds to try again."""

    def __init__(
        self, code: int, description: str, retry_after: int = 0, moved_to: int = 0
    ) -> None:
        super().__init__(description)
        self.code = code
        self.retry_after = retry_after
        self.moved_to = moved_to

    def response(self) -> web.Response:
        """Return the answer, whose HTTP status is the code as well."""
        body: dict[str, Any] = {"ok": False, "error_code": self.code, "description": str(self)}
        headers = {}
        if self.retry_after:
            body["parameters"] = {"retry_after": self.retry_after}
            headers["Retry-After"] = str(self.retry_after)
        if self.moved_to:
            body["parameters"] = {"migrate_to_chat_id": self.moved_to}
        return web.json_response(body, status=self.code, headers=headers)


def flood(retry_after: int) -> Refused:
    """Return the refusal of what comes too fast."""
    return Refused(429, f"Too Many Requests: retry after {retry_after}", retry_after)


def objects(value: Any) -> list[dict[str, Any]]:
    """Return a list of JSON objects as it is; raise Refused for anything else."""
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise Refused(400, "Bad Request: expected an Array of Objects")
    return value


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came with a call."""

    name: str
    mime_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """The parameters of a call, whose types depend on how they came: text in forms, or JSON."""

    fields: Mapping[str, Any]
    uploads: Mapping[str, Upload]

    def text(self, name: str) -> str:
        """Return a parameter as text, empty where it is not given."""
        value = self.fields.get(name)
        return "" if value is None else str(value)

    def integer(self, name: str, default: int = 0) -> int:
        """Return a parameter as a whole number, the default where it is none."""
        try:
            return int(self.text(name))
        except ValueError:
            return default

    def flag(self, name: str) -> bool:
        """Return whether a parameter is true."""
        return self.text(name).lower() in {"true", "1", "yes"}

    def structure(self, name: str) -> Any:
        """Return a parameter that is JSON, None where it is not given; raise Refused."""
        value = self.fields.get(name)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value) if value else None
        except ValueError:
            raise Refused(400, f"Bad Request: can't parse {name} JSON object") from None


async def read_call(request: web.Request) -> Call:
    """Read query, form, multipart or JSON; raise Refused where it is too large or no JSON."""
    fields: dict[str, Any] = dict(request.query)
    uploads = {}
    try:
        if request.content_type == "application/json":
            body = await request.json()
            if not isinstance(body, dict):
                raise Refused(400, "Bad Request: JSON object expected")
            fields.update(body)
        else:
            for name, value in (await request.post()).items():
                if isinstance(value, web.FileField):
                    content = value.file.read()
                    uploads[name] = Upload(value.filename, value.content_type, content)
                else:
                    fields[name] = value
    except web.HTTPRequestEntityTooLarge:
        raise Refused(413, "Request Entity Too Large") from None
    except ValueError:
        raise Refused(400, "Bad Request: can't parse the request's body") from None
    return Call(fields, uploads)
