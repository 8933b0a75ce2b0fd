"""What the server monitor measures."""

from django.db import models


class HostSample(models.Model):
    """One sample of the machine, in real time."""

    machine = models.CharField(max_length=10)
    at = models.DateTimeField()
    cpu_pct = models.FloatField()
    memory_pct = models.FloatField()
    disk_pct = models.FloatField()
    load_1m = models.FloatField()

    class Meta:
        indexes = [models.Index(fields=["-at"])]
        ordering = ["-at"]

    def __str__(self) -> str:
        return f"{self.machine} {self.at:%H:%M} cpu {self.cpu_pct:.0f} %"
