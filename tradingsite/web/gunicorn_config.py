"""Gunicorn's configuration: one worker with threads is enough for one owner."""

from typing import Any

from tradingsite.settings import TRUSTED_PROXIES, WEB_PORT
from tradingsite.supervision.services import WEB_ADDRESS

bind = f"{WEB_ADDRESS}:{WEB_PORT}"
workers = 1
threads = 4
worker_class = "tradingsite.web.worker.BufferingWorker"
worker_connections = 500
keepalive = 5
graceful_timeout = 5
accesslog = None
errorlog = "-"
loglevel = "warning"
control_socket_disable = True
forwarded_allow_ips = ",".join(TRUSTED_PROXIES)


def post_worker_init(worker: Any) -> None:
    """Let the web worker write heartbeats; imported here, when Django's models are ready."""
    from tradingsite.supervision.worker_heartbeats import report_answers

    report_answers(*worker.sockets[0].getsockname()[:2])
