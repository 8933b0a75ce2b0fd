"""The web application, for gunicorn."""

import os

from django.core.wsgi import get_wsgi_application

from tradingsite.postgresql import timeouts

timeouts.choose(timeouts.WEB)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradingsite.settings")
application = get_wsgi_application()
