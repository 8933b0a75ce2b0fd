"""What the doctor finds: one thing, how it stands, and what to do."""

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """Say how one thing stands, and what to do where it is not well."""

    name: str
    level: str
    says: str
    do: str = ""
