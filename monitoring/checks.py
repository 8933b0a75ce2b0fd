"""What the server monitor thinks of what it measures: pure functions, real seconds."""

DISK_WARNING_PCT = 85.0
DISK_CRITICAL_PCT = 90.0
# Services write every two seconds; this long without is no busy machine any more.
SILENT_AFTER_SECONDS = 30.0
# A slot may miss its bars this long before that is told: a bot waits five seconds for a late bar.
UNDECIDED_SECONDS = 45.0
# Beat's most frequent job that is recorded on every day of the year.
SECURITY_CHECK_SECONDS = 900.0
JOBS_SLACK_SECONDS = 60.0
JOBS_LEAST_SECONDS = 120.0


def disk_level(used_pct: float) -> str:
    """Return the severity of a disk's use, empty while there is room."""
    if used_pct >= DISK_CRITICAL_PCT:
        return "critical"
    return "warning" if used_pct >= DISK_WARNING_PCT else ""


def is_silent(seconds_since_beat: float) -> bool:
    """Say whether a service has not reported for too long.

    A living one replaces its beat every two seconds, so one that lies ahead is nobody's word: the
    clock went back since, or somebody wrote it.
    """
    return abs(seconds_since_beat) > SILENT_AFTER_SECONDS


def jobs_missing(seconds_since_job: float, speed: float) -> bool:
    """Say whether two of beat's most frequent firings went by without a job run."""
    allowed = 2 * SECURITY_CHECK_SECONDS / speed + JOBS_SLACK_SECONDS
    return seconds_since_job > max(allowed, JOBS_LEAST_SECONDS)
