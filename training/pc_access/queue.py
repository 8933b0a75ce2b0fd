"""PC's user of the queue: the messages of its own two queues, and nothing else on that server."""

from __future__ import annotations

import hashlib

import redis
from django.conf import settings

USER = "nightdesk_pc"
QUEUES = ("gpu", "pc")
SECONDS = 3.0
# What kombu puts between a queue's name and a priority.
_PRIORITIES = "\x06\x16[369]"
# By what a worker takes messages, keeps those that are not done, and brings them back.
_COMMANDS = (
    *("+hello", "+auth", "+ping", "+client|setinfo", "+select", "+brpop", "+llen", "+lpush"),
    *("+rpush", "+multi", "+exec", "+watch", "+unwatch", "+hset", "+hget", "+hdel", "+zadd"),
    *("+zrem", "+zrange", "+set", "+get", "+del", "+sadd", "+exists", "+evalsha"),
    *("+script|load", "+script|exists"),
)


def rule(password: str) -> list[str]:
    """Return the words that follow ACL SETUSER; the password's hash stands for it."""
    keys = [f"~{settings.PC_UNACKED}{suffix}" for suffix in ("", "_index", "_mutex")]
    for queue in QUEUES:
        keys += [f"~{queue}", f"~{queue}{_PRIORITIES}"]
        keys += [f"~_kombu.binding.{queue}", f"~_kombu.binding_permanent.{queue}"]
    # By its hash, so that the line may be printed and logged.
    digest = hashlib.sha256(password.encode()).hexdigest()
    return [USER, "reset", "on", f"#{digest}", "resetchannels", "-@all", *keys, *_COMMANDS]


def apply(password: str) -> bool:
    """Make the user on the running server; return whether the server keeps it over a restart."""
    server = _server()
    server.execute_command("ACL SETUSER", *rule(password))
    try:
        server.execute_command("ACL SAVE")
    except redis.ResponseError:
        return False
    return True


def faults() -> list[str] | None:
    """Return what of PC's user is not as it must be; None where there is none to be asked for."""
    try:
        lines = [str(line).split(" ") for line in _server().acl_list()]
    except redis.ResponseError as error:
        return [f"it cannot be asked for: {error}"]
    except redis.RedisError:
        return None  # the queue does not answer, which is a finding of its own
    words = next((set(line[2:]) for line in lines if line[1] == USER), None)
    if words is None:
        return None
    wanted = set(rule("")[1:])
    found = []
    if more := sorted(word for word in words - wanted if word[0] in "~%&+" or "all" in word):
        found.append(f"it may do more than it needs: {', '.join(map(repr, more[:5]))}")
    if less := sorted(word for word in wanted - words if word[0] in "~+"):
        found.append(f"it lacks what it needs: {', '.join(map(repr, less[:5]))}")
    if "nopass" in words:
        found.append("it needs no password")
    return found


def _server() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=SECONDS,
        socket_connect_timeout=SECONDS,
        decode_responses=True,
    )
