"""What is to be sent, to which chat, and what became of it."""

from django.db import models
from django.db.models import Q

from tradingsite.models import Notice


class Lane(models.Model):
    """One bot's side of one chat: messages of a lane go out in the order in which they came."""

    channel = models.CharField(max_length=20)
    chat = models.CharField(max_length=40)
    """The chat's id as the settings name it."""
    moved_to = models.CharField(max_length=40, blank=True)
    """Its id since Telegram made a supergroup of it."""
    closed_until = models.DateTimeField(null=True)
    """Real time before which nothing is tried, because Telegram asked for it or does not answer."""
    failures = models.PositiveIntegerField(default=0)
    """Tries in a row that failed for want of an answer."""
    reason = models.CharField(max_length=300, blank=True)
    """Why nothing goes out, in words for the page; empty while it does."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["channel", "chat"], name="one_lane_of_a_chat")
        ]
        ordering = ["channel", "chat"]

    def __str__(self) -> str:
        return f"{self.channel} to {self.chat}"

    @property
    def address(self) -> str:
        """Return the chat's id of today."""
        return self.moved_to or self.chat


class Cursor(models.Model):
    """How far the notices of a channel have been planned."""

    channel = models.CharField(max_length=20, primary_key=True)
    begins_after = models.BigIntegerField()
    """The newest notice when the channel first had a bot: what was before is not sent after it."""
    planned_to = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.channel} to {self.planned_to}"


class Delivery(models.Model):
    """One message: a notice that is told, one that is over, or a report."""

    class Kind(models.TextChoices):
        TOLD = "told"
        OVER = "over"
        REPORT = "report"

    class State(models.TextChoices):
        QUEUED = "queued"
        HELD = "held", "held until the quiet hours are over"
        SENDING = "sending"
        SENT = "sent"
        FAILED = "failed"
        MUTED = "muted"
        FOLDED = "folded", "folded into another"

    kind = models.CharField(max_length=8, choices=Kind)
    channel = models.CharField(max_length=20)
    lane = models.ForeignKey(Lane, on_delete=models.PROTECT, null=True)
    """None where the channel has no bot: the notice is shown on the page and nowhere else."""
    notice = models.ForeignKey(Notice, on_delete=models.CASCADE, null=True)
    under = models.ForeignKey("self", on_delete=models.SET_NULL, null=True)
    """The delivery that tells of this one's cause, or of it and others together."""
    edits = models.CharField(max_length=80, blank=True)
    """A name: a message of the same name is edited in place of a new one."""
    html = models.TextField(blank=True)
    file = models.CharField(max_length=300, blank=True)
    """A picture or document to send with it, by its path."""
    is_silent = models.BooleanField(default=True)
    state = models.CharField(max_length=8, choices=State, default=State.QUEUED)
    reason = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()
    not_before = models.DateTimeField(null=True)
    claimed_until = models.DateTimeField(null=True)
    """Real time after which whoever is sending it counts as dead."""
    tries = models.PositiveIntegerField(default=0)
    may_be_again = models.BooleanField(default=False)
    """A try before this one ended without an answer, so the message may be there already."""
    parts_sent = models.PositiveIntegerField(default=0)
    """Of a message too long for one."""
    message_id = models.BigIntegerField(null=True)
    sent_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            # Two planners at once, or one that was killed, tell a notice once all the same.
            models.UniqueConstraint(
                fields=["notice", "kind"],
                condition=Q(notice__isnull=False),
                name="one_delivery_of_a_notice",
            )
        ]
        indexes = [
            models.Index(
                fields=["lane", "id"],
                condition=Q(state__in=("queued", "sending")),
                name="delivery_waiting",
            ),
            models.Index(fields=["-created_at"]),
        ]
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.channel} {self.kind} {self.state}"


class Mute(models.Model):
    """A person wants to hear nothing of a channel for a while, but for what is critical."""

    channel = models.CharField(max_length=20, blank=True)
    """Empty for all of them."""
    until = models.DateTimeField()
    by = models.CharField(max_length=80)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.channel or 'all channels'} until {self.until:%Y-%m-%d %H:%M}Z"
