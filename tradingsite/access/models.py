"""Who may act, what they tried, and the account they act in."""

from django.conf import settings
from django.db import models
from django_otp.models import SideChannelDevice

from tradingsite.access.acts import ACTS


class Act(models.Model):
    """Nothing but a place for the permissions."""

    class Meta:
        managed = False
        default_permissions = ()
        permissions = tuple(ACTS.items())


class WrongAttempts(models.Model):
    """How often in a row a signed-in person said a wrong password or code."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True)
    count = models.PositiveIntegerField(default=0)
    last_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.user}: {self.count}"


class OneTimeCode(SideChannelDevice):
    """A code that the server's console printed: it stands for the phone, once, for minutes."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user"], name="one_code_a_person")]


class PinnedAccount(models.Model):
    """The account at a broker that this desk trades in; another one's token is refused."""

    broker = models.CharField(max_length=20, primary_key=True)
    account = models.CharField(max_length=60)
    by = models.CharField(max_length=150)
    pinned_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.broker}: {self.account}"
