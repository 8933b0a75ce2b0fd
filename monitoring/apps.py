"""The watching and showing app."""

from django.apps import AppConfig


class LiveDoctor:
    """The doctor, for live bots; what it needs is loaded when it is first asked."""

    def refusals(self, bot: str) -> list[str]:
        """Return in words what keeps a live bot from new risk."""
        from monitoring.doctor.checks import refusals

        return refusals(bot)


class MonitoringConfig(AppConfig):
    """Provide the doctor that live bots must pass."""

    name = "monitoring"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Fill the port."""
        from bots.execution import doctor_port

        doctor_port.provide(LiveDoctor())
