"""The simulated Telegram, through the unmodified python-telegram-bot."""

import asyncio
import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from telegram import Bot, BotCommand, InlineKeyboardButton, InlineKeyboardMarkup, Message, Update
from telegram.constants import ParseMode
from telegram.error import (
    BadRequest,
    Conflict,
    Forbidden,
    InvalidToken,
    NetworkError,
    RetryAfter,
    TelegramError,
    TimedOut,
)
from telegram.ext import (
    Application,
    CallbackQueryHandler,
    CommandHandler,
    ContextTypes,
)

from markets.simulator.telegram import GROUP_CHAT, OWNER_CHAT, TOKENS, Telegram
from tests.markets.simulator.served import served
from tradingsite.notices import CHANNELS

# The library warns of its own message about a flood.
pytestmark = pytest.mark.filterwarnings("ignore:Deprecated since version v22.2")

MEGABYTE = 1024 * 1024
PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (640).to_bytes(4, "big") + (360).to_bytes(4, "big")
BUTTONS = InlineKeyboardMarkup([[InlineKeyboardButton("Confirm", callback_data="kill:yes")]])


class Desk:
    """A simulated Telegram, its address, and a person in front of it."""

    def __init__(self, telegram: Telegram, url: str) -> None:
        self.faults = telegram.faults
        self.url = url

    def bot(self, token: str = TOKENS["trading"]) -> Bot:
        """Return a new bot, for one event loop."""
        return Bot(token, base_url=f"{self.url}/bot", base_file_url=f"{self.url}/file/bot")

    def run(self, act: Callable[[Bot], Awaitable[Any]], token: str = TOKENS["trading"]) -> Any:
        """Let a new bot act in an event loop of its own."""

        async def alone() -> Any:
            async with self.bot(token) as bot:
                return await act(bot)

        return asyncio.run(alone())

    def post(self, path: str, **body: Any) -> Any:
        """Do what a person does."""
        request = urllib.request.Request(  # noqa: S310  # our own address
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return json.load(answer)

    def read(self, path: str = "/_sim/telegram") -> Any:
        """Read what a person sees."""
        with urllib.request.urlopen(self.url + path) as answer:  # noqa: S310
            return json.load(answer)

    def refused(self, error: type[TelegramError], act: Callable[[Bot], Awaitable[Any]]) -> str:
        """Return why Telegram refused something, by an error of that class and no other."""
        with pytest.raises(error) as caught:
            self.run(act)
        assert type(caught.value) is error
        return caught.value.message


@pytest.fixture(scope="module")
def shared() -> Iterator[Desk]:
    """Serve one Telegram whose limits never bind, since their time flies."""
    seconds = iter(range(10**9))
    telegram = Telegram(now=lambda: next(seconds) * 100.0)
    with served(telegram.app()) as url:
        yield Desk(telegram, url)


@pytest.fixture
def desk(shared: Desk) -> Iterator[Desk]:
    """Serve the shared Telegram, without the faults of the test before."""
    yield shared
    shared.faults.clear()


def test_there_is_one_bot_for_each_channel() -> None:
    assert tuple(TOKENS) == CHANNELS


def test_a_message_arrives_as_its_reader_sees_it(desk: Desk) -> None:
    async def act(bot: Bot) -> Message:
        assert (await bot.get_me()).username == "nightdesk_brief_bot"
        html = "<b>NIFTY</b> 🟢 <i>25&nbsp;&lt; 26</i> &amp; <a href='https://a.b/?x=1'>more</a>"
        return await bot.send_message(
            OWNER_CHAT, html, ParseMode.HTML, disable_notification=True, reply_markup=BUTTONS
        )

    message = desk.run(act, TOKENS["brief"])
    assert message.text == "NIFTY 🟢 25&nbsp;< 26 & more"
    assert message.text_html == (
        '<b>NIFTY</b> 🟢 <i>25&amp;nbsp;&lt; 26</i> &amp; <a href="https://a.b/?x=1">more</a>'
    )
    assert message.chat.type == "private"
    (sent,) = desk.read("/_sim/telegram?bot=brief")["sent"]
    assert sent["chat"]["id"] == OWNER_CHAT
    assert sent["message_id"] == message.message_id
    assert sent["text"] == message.text
    assert sent["disable_notification"] is True
    assert sent["reply_markup"] == BUTTONS.to_dict()


def test_pictures_and_documents_arrive_and_can_be_fetched(desk: Desk) -> None:
    async def act(bot: Bot) -> bytes:
        caption = "<b>PnL</b>"
        shown = await bot.send_photo(
            GROUP_CHAT, PNG, caption, filename="pnl.png", parse_mode="HTML"
        )
        assert (shown.photo[-1].width, shown.photo[-1].height) == (640, 360)
        await bot.send_photo(GROUP_CHAT, shown.photo[-1].file_id)
        sent = await bot.send_document(GROUP_CHAT, io.BytesIO(b"a,b\n1,2\n"), filename="day.csv")
        assert sent.document is not None
        return bytes(await (await bot.get_file(sent.document)).download_as_bytearray())

    assert desk.run(act, TOKENS["infrastructure"]) == b"a,b\n1,2\n"
    first, again, document = desk.read("/_sim/telegram?bot=infrastructure")["sent"]
    assert first["caption"] == "PnL"
    assert first["file"] == again["file"] == {"name": "pnl.png", "size": len(PNG)}
    assert document["file"] == {"name": "day.csv", "size": 8}


def test_a_message_is_edited(desk: Desk) -> None:
    async def act(bot: Bot) -> Message:
        message = await bot.send_message(OWNER_CHAT, "Kill?", reply_markup=BUTTONS)
        edited = await message.edit_text("Killed")
        assert isinstance(edited, Message)
        assert edited.edit_date
        with pytest.raises(BadRequest, match="Message is not modified"):
            await message.edit_text("Killed")
        with pytest.raises(BadRequest, match="Message to edit not found"):
            await bot.edit_message_text("Killed", GROUP_CHAT, message.message_id)
        return message

    message = desk.run(act)
    (sent,) = (
        each
        for each in desk.read()["sent"]
        if each["message_id"] == message.message_id and each["bot"] == "trading"
    )
    assert (sent["text"], sent["reply_markup"]) == ("Killed", None)
    assert [edit["text"] for edit in sent["edits"]] == ["Kill?"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Message text is empty"),
        ("x" * 4_097, "Message is too long"),
        ("price < 5", 'Can\'t parse entities: unsupported start tag "" at byte offset 6'),
        ("<b>open", "Can't parse entities: can't find end tag corresponding to start tag \"b\""),
    ],
)
def test_a_bad_text_is_refused(desk: Desk, text: str, why: str) -> None:
    def act(bot: Bot) -> Awaitable[Any]:
        return bot.send_message(OWNER_CHAT, text, ParseMode.HTML)

    assert desk.refused(BadRequest, act).lower() == why.lower()


def test_length_counts_what_is_read(desk: Desk) -> None:
    html = "<b>" + "&lt;" * 4_096 + "</b>"
    assert desk.run(lambda bot: bot.send_message(OWNER_CHAT, html, ParseMode.HTML)).text


def test_files_have_limits(desk: Desk) -> None:
    large = PNG + bytes(10 * MEGABYTE)
    assert "too big for a photo" in desk.refused(BadRequest, lambda b: b.send_photo(1, large))
    text = b"not a picture"
    assert "IMAGE_PROCESS_FAILED".lower() in (
        desk.refused(BadRequest, lambda b: b.send_photo(1, text)).lower()
    )
    assert desk.refused(BadRequest, lambda b: b.send_photo(1, PNG, "x" * 1_025)) == (
        "Message caption is too long"
    )
    huge = bytes(50 * MEGABYTE + 1)
    assert desk.refused(NetworkError, lambda b: b.send_document(1, huge)) == (
        "Request Entity Too Large"
    )


def test_strangers_are_refused(desk: Desk) -> None:
    assert desk.refused(BadRequest, lambda bot: bot.send_message(5, "hello")) == "Chat not found"
    for token in ("700001:wrong", "nonsense"):
        with pytest.raises(InvalidToken):
            desk.run(lambda bot: bot.get_me(), token)
    desk.post("/_sim/telegram", bot="trading", chat_id=5, user_id=5, text="hello")
    assert desk.run(lambda bot: bot.send_message(5, "hello")).chat.id == 5


def test_buttons_and_commands_are_checked(desk: Desk) -> None:
    long = InlineKeyboardMarkup([[InlineKeyboardButton("x", callback_data="y" * 65)]])
    why = desk.refused(BadRequest, lambda bot: bot.send_message(1, "x", reply_markup=long))
    assert why == "Button_data_invalid"
    assert desk.run(lambda bot: bot.set_my_commands([BotCommand("status", "How it goes")]))
    desk.refused(BadRequest, lambda bot: bot.set_my_commands([("Status!", "How it goes")]))
    assert desk.read()["commands"]["trading"] == [
        {"command": "status", "description": "How it goes"}
    ]


def test_an_application_hears_people_and_their_buttons(desk: Desk) -> None:
    heard: list[Any] = []

    async def act() -> None:
        done = asyncio.Event()

        async def kill(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
            assert update.effective_user is not None and update.message is not None
            heard.append((update.effective_user.id, context.args))
            question = await update.message.reply_text("Sure?", reply_markup=BUTTONS)
            press = {"bot": "options", "user_id": 7, "button": "Confirm"}
            await asyncio.to_thread(
                desk.post, "/_sim/telegram/press", message_id=question.message_id, **press
            )

        async def confirm(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
            query = update.callback_query
            assert query is not None
            heard.append((query.from_user.id, query.data))
            await query.answer("Done")
            with pytest.raises(BadRequest, match="query id is invalid"):
                await query.answer("Again")
            await query.edit_message_text("Killed")
            done.set()

        application = (
            Application.builder()
            .token(TOKENS["options"])
            .base_url(f"{desk.url}/bot")
            .base_file_url(f"{desk.url}/file/bot")
            .build()
        )
        application.add_handler(CommandHandler("kill", kill))
        application.add_handler(CallbackQueryHandler(confirm))
        async with application:
            await application.start()
            assert application.updater is not None
            await application.updater.start_polling(drop_pending_updates=True)
            await asyncio.to_thread(
                desk.post,
                "/_sim/telegram",
                **{"bot": "options", "chat_id": 7, "user_id": 7, "text": "/kill nifty 15m"},
            )
            await asyncio.wait_for(done.wait(), 10)
            await application.updater.stop()
            await application.stop()

    desk.post("/_sim/telegram", bot="options", chat_id=7, user_id=7, text="/kill of yesterday")
    asyncio.run(act())
    assert heard == [(7, ["nifty", "15m"]), (7, "kill:yes")]
    seen = desk.read("/_sim/telegram?bot=options")
    assert [press["answer"] for press in seen["presses"]["options"].values()] == [
        {"text": "Done", "show_alert": False}
    ]
    assert seen["sent"][-1]["text"] == "Killed"
    assert seen["waiting"] == {"options": 0}


def test_updates_wait_until_confirmed(desk: Desk) -> None:
    async def act(bot: Bot) -> None:
        began = time.monotonic()
        assert await bot.get_updates(timeout=1) == ()
        assert time.monotonic() - began >= 1.0
        for text in ("one", "two"):
            write = {"bot": "brief", "chat_id": 1, "user_id": 1, "text": text}
            await asyncio.to_thread(desk.post, "/_sim/telegram", **write, seconds_ago=3_600)
        one, two = await bot.get_updates()
        assert one.message is not None
        assert 3_590 < time.time() - one.message.date.timestamp() < 3_700
        assert (await bot.get_updates())[0] == one
        assert await bot.get_updates(offset=two.update_id) == (two,)
        assert await bot.get_updates(offset=two.update_id + 1) == ()

    desk.run(act, TOKENS["brief"])


def test_two_pollers_are_in_conflict(desk: Desk) -> None:
    async def act(bot: Bot) -> None:
        async with desk.bot() as other:
            await bot.delete_webhook(drop_pending_updates=True)
            first = asyncio.create_task(bot.get_updates(timeout=10))
            while not first.done():
                await other.get_updates()
            with pytest.raises(Conflict, match="only one bot instance is running"):
                await first

    desk.run(act)


def test_faults_happen_on_demand(desk: Desk) -> None:
    def act(bot: Bot) -> Awaitable[Any]:
        return bot.send_message(OWNER_CHAT, "in spite of it", read_timeout=1)

    desk.post("/_sim/fault", kind="flood", seconds=7)
    assert "Retry in 7 seconds" in desk.refused(RetryAfter, act)
    desk.post("/_sim/fault", kind="blocked")
    assert desk.refused(Forbidden, act) == "Forbidden: bot was blocked by the user"
    desk.post("/_sim/fault", kind="server_error", match="sendMessage")
    desk.refused(NetworkError, act)
    desk.post("/_sim/fault", kind="silence", match="sendMessage", seconds=3)
    desk.refused(TimedOut, act)
    texts = [sent["text"] for sent in desk.read("/_sim/telegram?bot=trading")["sent"]]
    assert texts.count("in spite of it") == 1


def test_a_poll_may_hang(desk: Desk) -> None:
    desk.post("/_sim/fault", kind="silence", match="getUpdates", seconds=0.2)
    desk.refused(NetworkError, lambda bot: bot.get_updates())


@pytest.mark.parametrize("path", ["sendMessage", "SENDMESSAGE?chat_id=1"])
def test_other_forms_of_a_call_are_understood(desk: Desk, path: str) -> None:
    answer = desk.post(f"/bot{TOKENS['options']}/{path}", chat_id=1, text="JSON", entities=[])
    assert answer["ok"]
    assert answer["result"]["text"] == "JSON"


def test_a_person_is_told_what_is_wrong(desk: Desk) -> None:
    for path, body in {
        "/_sim/telegram": {"bot": "nobody", "chat_id": 1, "user_id": 1, "text": "x"},
        "/_sim/telegram/press": {"bot": "trading", "message_id": 0, "user_id": 1, "button": "x"},
    }.items():
        with pytest.raises(urllib.error.HTTPError) as caught:
            desk.post(path, **body)
        assert json.load(caught.value)["error"]


def test_a_flooded_chat_is_told_when_to_come_back() -> None:
    telegram = Telegram(now=lambda: 0.0)  # time stands still, so nothing drains

    async def act(bot: Bot) -> None:
        for _ in range(20):
            await bot.send_message(GROUP_CHAT, "alert")
        with pytest.raises(RetryAfter, match="Retry in 3 seconds"):
            await bot.send_message(GROUP_CHAT, "alert")
        await bot.send_message(OWNER_CHAT, "the owner is not in that group")

    with served(telegram.app()) as url:
        Desk(telegram, url).run(act)
