"""Models that live in several databases, used through proxies bound to one of them.

`Order.on("nifty")` is a proxy class whose rows are read and written in the `nifty` database only.
Django's own `.using()` is not enough: `.using("nifty").create(position=<row of btc>)` links
silently to whichever row of `nifty` has that id, while a bound class refuses it.
"""

from typing import ClassVar, Self, TypeVar

from django.db import models

from tradingsite.databases import HOMES

AnyModel = TypeVar("AnyModel", bound="type[BoundModel]")

_PROXIES: dict[tuple[str, str], type[models.Model]] = {}


class BoundModel(models.Model):
    """Base of the models that must be told which database they are in."""

    database: ClassVar[str | None] = None

    class Meta:
        abstract = True

    @classmethod
    def on(cls, alias: str) -> type[Self]:
        """Return this model bound to one database; raise LookupError where it is not in it."""
        proxy = _PROXIES.get((cls._meta.label, alias))
        if proxy is None:
            homes = ", ".join(HOMES[cls._meta.app_label])
            raise LookupError(f"{cls._meta.label} is not in {alias!r}; it lives in {homes}")
        return proxy  # type: ignore[return-value]  # a registry cannot carry the class's own type


def bound(model: AnyModel) -> AnyModel:
    """Create the model's proxies, one for each database its app lives in."""
    label = model._meta.label
    for alias in HOMES[model._meta.app_label]:
        meta = type(
            "Meta",
            (),
            {
                "proxy": True,
                "app_label": model._meta.app_label,
                "verbose_name": f"{alias} {model._meta.verbose_name}",
                "verbose_name_plural": f"{alias} {model._meta.verbose_name_plural}",
            },
        )
        name = "".join(part.title() for part in alias.split("_")) + model.__name__
        attributes = {"__module__": model.__module__, "Meta": meta, "database": alias}
        _PROXIES[label, alias] = type(name, (model,), attributes)
    return model
