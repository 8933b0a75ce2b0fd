"""The methods of the Bot API that answer at once; names and texts are Telegram's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain
from typing import Any

from markets.simulator.telegram.accounts import Account, Json, Sent
from markets.simulator.telegram.calls import Call, Refused, flood, objects
from markets.simulator.telegram.files import DOWNLOAD_BYTES, StoredFile
from markets.simulator.telegram.markup import BadMarkup, parse_html

TEXT_CHARACTERS = 4_096
CAPTION_CHARACTERS = 1_024
BUTTON_BYTES = 64
MOST_COMMANDS = 100
_COMMAND = re.compile(r"[a-z0-9_]{1,32}")


def get_me(account: Account, call: Call) -> Json:
    """Return the bot itself."""
    abilities = ("can_join_groups", "can_read_all_group_messages", "supports_inline_queries")
    return {**account.user, **dict.fromkeys(abilities, False)}


def send_message(account: Account, call: Call) -> Json:
    """Send a text."""
    content = _text_content(call)
    return account.send(_open_chat(account, call), content, None, call.flag("disable_notification"))


def send_photo(account: Account, call: Call) -> Json:
    """Send a PNG or JPEG with a caption."""
    stored = _file(account, call, "photo")
    size = {**_file_fields(stored), "width": stored.width, "height": stored.height}
    return _send_file(account, call, stored, {"photo": [size]})


def send_document(account: Account, call: Call) -> Json:
    """Send any file with a caption."""
    stored = _file(account, call, "document")
    names = {"file_name": stored.name, "mime_type": stored.mime_type}
    return _send_file(account, call, stored, {"document": {**_file_fields(stored), **names}})


def edit_message_text(account: Account, call: Call) -> Json:
    """Replace the text of a message, and its buttons: without new ones they go."""
    content = _text_content(call)
    chat_id = _open_chat(account, call)
    sent = account.sent.get(call.integer("message_id"))
    if sent is None or sent.message["chat"]["id"] != chat_id:
        raise Refused(400, "Bad Request: message to edit not found")
    if "text" not in sent.message:
        raise Refused(400, "Bad Request: there is no text in the message to edit")
    if content == _editable(sent):
        raise Refused(
            400,
            "Bad Request: message is not modified: specified new message content and reply markup "
            "are exactly the same as a current content and reply markup of the message",
        )
    return account.edit(sent, content)


def answer_callback_query(account: Account, call: Call) -> bool:
    """End the waiting of who pressed a button, once."""
    press = account.presses.get(call.text("callback_query_id"))
    if press is None or press["answer"] is not None:
        raise Refused(
            400,
            "Bad Request: query is too old and response timeout expired or query ID is invalid",
        )
    press["answer"] = {"text": call.text("text"), "show_alert": call.flag("show_alert")}
    return True


def delete_webhook(account: Account, call: Call) -> bool:
    """Forget what waits, if asked to; there never is a webhook."""
    if call.flag("drop_pending_updates"):
        account.updates.clear()
    return True


def get_webhook_info(account: Account, call: Call) -> Json:
    """Return that there is no webhook, and how many updates wait."""
    pending = len(account.updates)
    return {"url": "", "has_custom_certificate": False, "pending_update_count": pending}


def set_my_commands(account: Account, call: Call) -> bool:
    """Set the menu of commands."""
    commands = objects(call.structure("commands") or [])
    if len(commands) > MOST_COMMANDS:
        raise Refused(400, "Bad Request: BOT_COMMANDS_TOO_MUCH")
    for each in commands:
        if not _COMMAND.fullmatch(str(each.get("command"))):
            raise Refused(400, "Bad Request: BOT_COMMAND_INVALID")
        if not 1 <= len(str(each.get("description", ""))) <= 256:
            raise Refused(400, "Bad Request: BOT_COMMAND_DESCRIPTION_INVALID")
    account.commands = commands
    return True


def get_file(account: Account, call: Call) -> Json:
    """Return where a file can be fetched."""
    stored = account.files.get(call.text("file_id"))
    if stored is None:
        raise Refused(400, "Bad Request: wrong file_id or the file is temporarily unavailable")
    if stored.size > DOWNLOAD_BYTES:
        raise Refused(400, "Bad Request: file is too big")
    return {**_file_fields(stored), "file_path": stored.path}


# By lower-case name: Telegram does not mind case.
METHODS: dict[str, Callable[[Account, Call], Any]] = {
    "getme": get_me,
    "sendmessage": send_message,
    "sendphoto": send_photo,
    "senddocument": send_document,
    "editmessagetext": edit_message_text,
    "answercallbackquery": answer_callback_query,
    "deletewebhook": delete_webhook,
    "getwebhookinfo": get_webhook_info,
    "setmycommands": set_my_commands,
    "getfile": get_file,
}
WRITING = {"sendmessage", "sendphoto", "senddocument", "editmessagetext"}


def _open_chat(account: Account, call: Call) -> int:
    """Return the chat a call writes to, counting it there; raise Refused."""
    if not call.text("chat_id"):
        raise Refused(400, "Bad Request: chat_id is empty")
    chat_id = call.integer("chat_id")
    if chat_id not in account.chats:
        raise Refused(400, "Bad Request: chat not found")
    if seconds := account.limits.admit(chat_id):
        raise flood(seconds)
    return chat_id


def _text_content(call: Call) -> Json:
    text, entities = _parsed(call, "text")
    if not text.strip():
        raise Refused(400, "Bad Request: message text is empty")
    if len(text) > TEXT_CHARACTERS:
        raise Refused(400, "Bad Request: message is too long")
    return _without_nothing(text=text, entities=entities, reply_markup=_markup(call))


def _send_file(account: Account, call: Call, stored: StoredFile, media: Json) -> Json:
    caption, entities = _parsed(call, "caption")
    if len(caption) > CAPTION_CHARACTERS:
        raise Refused(400, "Bad Request: message caption is too long")
    texts = {"caption": caption, "caption_entities": entities, "reply_markup": _markup(call)}
    content = {**media, **_without_nothing(**texts)}
    chat_id = _open_chat(account, call)
    return account.send(chat_id, content, stored, call.flag("disable_notification"))


def _parsed(call: Call, name: str) -> tuple[str, list[Json]]:
    """Return a text as its reader sees it, and its entities."""
    mode = call.text("parse_mode").lower()
    if not mode:
        return call.text(name), call.structure("entities") or []
    if mode != "html":
        # Markdown is not simulated: nothing of ours writes it.
        raise Refused(400, "Bad Request: unsupported parse_mode")
    try:
        return parse_html(call.text(name))
    except BadMarkup as error:
        raise Refused(400, f"Bad Request: can't parse entities: {error}") from None


def _markup(call: Call) -> Json | None:
    """Return the inline keyboard; other keyboards are taken and not shown, as Telegram does."""
    markup = call.structure("reply_markup")
    if not isinstance(markup, dict) or not isinstance(markup.get("inline_keyboard"), list):
        return None
    for button in chain.from_iterable(map(objects, markup["inline_keyboard"])):
        if not button.get("text"):
            raise Refused(400, "Bad Request: BUTTON_TEXT_INVALID")
        if len(str(button.get("callback_data", "")).encode()) > BUTTON_BYTES:
            raise Refused(400, "Bad Request: BUTTON_DATA_INVALID")
    return markup


def _file(account: Account, call: Call, kind: str) -> StoredFile:
    """Take the file that came with a call, or find the one it names."""
    if upload := call.uploads.get(kind):
        return account.files.add(kind, upload.name, upload.mime_type, upload.content)
    if not call.text(kind):
        raise Refused(400, f"Bad Request: there is no {kind} in the request")
    stored = account.files.get(call.text(kind))
    if stored is None or not stored.file_id.startswith(kind):
        raise Refused(400, "Bad Request: wrong remote file identifier specified")
    return stored


def _file_fields(stored: StoredFile) -> Json:
    return {
        "file_id": stored.file_id,
        "file_unique_id": f"unique-{stored.file_id}",
        "file_size": stored.size,
    }


def _editable(sent: Sent) -> Json:
    names = ("text", "entities", "reply_markup")
    return {name: sent.message[name] for name in names if name in sent.message}


def _without_nothing(**content: Any) -> Json:
    return {name: value for name, value in content.items() if value}
