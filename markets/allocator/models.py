"""The allocator's own database: closes of assets that no market has, and each month's result."""

from django.db import models

CLASSES = [(each, each) for each in ("equity", "crypto", "commodities", "bonds", "cash")]


class ImportedAsset(models.Model):
    """An asset whose daily closes come from files."""

    name = models.CharField(max_length=20, unique=True)
    asset_class = models.CharField(max_length=12, choices=CLASSES)
    currency = models.CharField(max_length=5)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} ({self.asset_class}, {self.currency})"


class AssetBar(models.Model):
    """One day's close of an imported asset, in its currency."""

    asset = models.ForeignKey(ImportedAsset, on_delete=models.CASCADE, related_name="bars")
    date = models.DateField()
    close = models.DecimalField(max_digits=14, decimal_places=4)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["asset", "date"], name="one_close_a_day")]
        ordering = ["asset", "-date"]

    def __str__(self) -> str:
        return f"{self.date} {self.close:f}"


class MonthlyRun(models.Model):
    """One month's look at the assets, as of its first day; other inputs make another run."""

    month = models.DateField()
    made_at = models.DateTimeField()
    fingerprint = models.CharField(max_length=64)
    """sha256 over the closes and the current weights it was made of."""
    current_from = models.CharField(max_length=200)
    """Where the current weights come from, or why there are none."""
    notes = models.TextField(blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["month", "fingerprint"], name="one_run_of_inputs")
        ]
        ordering = ["-month", "-id"]

    def __str__(self) -> str:
        return f"{self.month:%B %Y}"


class AssetMetric(models.Model):
    """What the closes of one asset say, in ratios; empty where they do not reach."""

    run = models.ForeignKey(MonthlyRun, on_delete=models.CASCADE, related_name="metrics")
    asset = models.CharField(max_length=20)
    asset_class = models.CharField(max_length=12, choices=CLASSES)
    currency = models.CharField(max_length=5)
    first_on = models.DateField(null=True)
    last_on = models.DateField(null=True)
    closes = models.PositiveIntegerField()
    return_1m = models.FloatField(null=True)
    return_3m = models.FloatField(null=True)
    return_6m = models.FloatField(null=True)
    return_12m = models.FloatField(null=True)
    volatility = models.FloatField(null=True)
    max_drawdown = models.FloatField(null=True)
    momentum = models.FloatField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "asset"], name="one_metric")]
        ordering = ["-run", "id"]

    def __str__(self) -> str:
        return f"{self.asset} {self.run}"


class Correlation(models.Model):
    """How the weekly returns of two assets move together, -1 to 1."""

    run = models.ForeignKey(MonthlyRun, on_delete=models.CASCADE, related_name="correlations")
    first = models.CharField(max_length=20)
    second = models.CharField(max_length=20)
    value = models.FloatField(null=True)
    weeks = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "first", "second"], name="one_correlation")
        ]
        ordering = ["-run", "id"]

    def __str__(self) -> str:
        value = "unknown" if self.value is None else f"{self.value:+.2f}"
        return f"{self.first} and {self.second}: {value}"


class Weight(models.Model):
    """What part of the whole an asset has and is to have, 0 to 1; empty where it is not known."""

    run = models.ForeignKey(MonthlyRun, on_delete=models.CASCADE, related_name="weights")
    asset = models.CharField(max_length=20)
    current = models.FloatField(null=True)
    target = models.FloatField(null=True)
    method = models.CharField(max_length=80, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    """Why it gets no weight."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "asset"], name="one_weight")]
        ordering = ["-run", "id"]

    def __str__(self) -> str:
        target = "none" if self.target is None else f"{self.target:.1%}"
        return f"{self.asset} {target}"
