"""Settings: one file, driven by the environment and `.env`; every default is safe and local.

With nothing set, the desk runs in simulated mode on one machine, on embedded servers, without keys.
"""

import datetime as dt
import ipaddress
import os
from importlib import import_module
from pathlib import Path
from urllib.parse import urlsplit

from csp.constants import NONE, SELF
from django.templatetags.static import static

from tradingsite import (
    clock,
    databases,
    keys,
    memory,
    owner_limits,
    simulator_ports,
    venue_settings,
)
from tradingsite.embedded import launcher
from tradingsite.environment import LEVELS, Environment
from tradingsite.errors import BadSetting
from tradingsite.supervision.services import SERVICE_VARIABLE

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment()
Environment.read_env(BASE_DIR / ".env")

# --- Where and how this machine works ------------------------------------------------------------
MODE = env.choice("MODE", "simulated", ("simulated", "paper", "live"))
MACHINE = env.choice("MACHINE", "single", ("single", "prod", "pc", "laptop"))
DATA_DIR = Path(env.str("DATA_DIR", str(BASE_DIR / "var"))).resolve()
PROD_DIR = DATA_DIR / "prod"
PC_DIR = DATA_DIR / "pc"
# Where PROD finds PC, as user@host or user@host:port; empty where one machine plays both roles.
PC_SSH = env.str("PC_SSH", "")
PC_SSH_KEY = Path(env.str("PC_SSH_KEY", str(DATA_DIR / "secrets" / "pc_ssh_key")))
PC_KNOWN_HOSTS = Path(env.str("PC_KNOWN_HOSTS", str(DATA_DIR / "secrets" / "pc_known_hosts")))
# Another key, by which PROD reads PC's archive and writes nothing.
PC_SSH_READ_KEY = Path(env.str("PC_SSH_READ_KEY", str(DATA_DIR / "secrets" / "pc_ssh_read_key")))
# PC's DATA_DIR, as PC names it; empty where rrsync keeps each key in its folder.
PC_DATA_DIR = env.str("PC_DATA_DIR", "")
LINK_KBPS = env.whole("LINK_KBPS", 0, 0)  # no transfer is quicker, in kB a second; 0: no limit

# The owner's own limits; a broken file is told by doctor, and lets no bot take new risk.
LIMITS_FILE = Path(env.str("LIMITS_FILE", "") or DATA_DIR / "limits.toml")
owner_limits.apply(LIMITS_FILE, must_exist=bool(env.str("LIMITS_FILE", "")))

clock.simulate(DATA_DIR / "clock.json" if MODE == "simulated" else None)
SIM_SEED = env.whole("SIM_SEED", 7, 0)
SIM_START = env.day("SIM_START", "2026-06-01")
SIM_SPEED = env.positive("SIM_SPEED", 48.0, 3_600.0)
SIM_NIGHT_SPEED = env.positive("SIM_NIGHT_SPEED", 480.0, 3_600.0)

# Timesteps of the quick model that a fresh machine trains; a real one is trained with more.
TRAIN_TIMESTEPS = env.whole("TRAIN_TIMESTEPS", 60_000 if MODE == "simulated" else 100_000, 1)
# Which models trade: gated (refits of an approved recipe), newest, or like gated,btc-1h=newest.
MODEL_POLICY = env.policy("MODEL_POLICY")
CHAMPION_MAX_AGE_DAYS = env.whole("CHAMPION_MAX_AGE_DAYS", 7, 1)
# Slots whose model goes back by itself when it does worse than its recipe ever did, like btc-1h.
DEMOTE_SLOTS = env.slots("DEMOTE_SLOTS")
# A git repository of the owner's that PC pushes every model to that traded; none where it is empty.
MODELS_GIT_REMOTE = env.str("MODELS_GIT_REMOTE", "")
USDC_INR = env.positive(
    "USDC_INR", 88.6, 1_000.0
)  # shown beside totals; only a rate for adding up a page
# What part of the whole each asset has now, like nifty=0.5,btc=0.3,gold=0.2, where the owner knows.
ALLOCATOR_CURRENT = env.str("ALLOCATOR_CURRENT", "")

# --- Venues: where they are, who we are there; a secret may be in the file that NAME_FILE names ---
# The first of the simulator's four ports in a row; where it is taken `up` goes on to the next row.
SIM_PORT = env.whole("SIM_PORT", simulator_ports.FIRST, 1, 65_000)
SIM_PORT_FOUND = simulator_ports.first_port(DATA_DIR, SIM_PORT)
SIM_DESK = simulator_ports.desk_id(DATA_DIR) if MODE == "simulated" else ""
# Only a simulated desk knows the simulator; the others load none of it.
_credentials = vars(import_module("markets.simulator.credentials")) if MODE == "simulated" else {}
_venue = venue_settings.Reader(MODE, os.environ, _credentials, SIM_PORT_FOUND)
KITE_API_KEY = _venue.text("KITE_API_KEY")
KITE_API_SECRET = _venue.secret("KITE_API_SECRET")
KITE_USER_ID = _venue.text("KITE_USER_ID")
KITE_PASSWORD = _venue.secret("KITE_PASSWORD")  # with the next one, only for KITE_LOGIN=headless
KITE_TOTP_SECRET = _venue.secret("KITE_TOTP_SECRET")
KITE_LOGIN = _venue.login()
KITE_PRODUCT = env.choice(
    "KITE_PRODUCT", "NRML", ("NRML", "MIS")
)  # MIS is squared off by the broker each day
KITE_ROOT = _venue.address("KITE_ROOT")
KITE_LOGIN_ROOT = _venue.address("KITE_LOGIN_ROOT")
KITE_WS_ROOT = _venue.address("KITE_WS_ROOT")
EXCHANGE_ID = _venue.text("EXCHANGE_ID", "hyperliquid")  # ccxt's name of it
EXCHANGE_WALLET = _venue.text("EXCHANGE_WALLET")
EXCHANGE_PRIVATE_KEY = _venue.secret("EXCHANGE_PRIVATE_KEY")
EXCHANGE_API_KEY = _venue.secret("EXCHANGE_API_KEY")
EXCHANGE_SECRET = _venue.secret("EXCHANGE_SECRET")
EXCHANGE_URL = _venue.address("EXCHANGE_URL")

# --- Telling the owner: a bot a channel, one chat for all unless a channel has its own -----------
TELEGRAM_ROOT = _venue.address("TELEGRAM_ROOT")
_channels = ("trading", "infrastructure", "options", "brief")
TELEGRAM_TOKENS = {name: _venue.secret(f"TELEGRAM_TOKEN_{name.upper()}") for name in _channels}
_chat = _venue.text("TELEGRAM_CHAT")
TELEGRAM_CHATS = {name: _venue.text(f"TELEGRAM_CHAT_{name.upper()}", _chat) for name in _channels}
# Hours of each night in which only what is critical is sent, IST; "none" for no such hours.
QUIET_HOURS = env.hours("QUIET_HOURS", "none" if MODE == "simulated" else "23:00-07:00")

# --- Servers -------------------------------------------------------------------------------------
EMBEDDED = not env.str("DATABASE_URL", "")
NOTHING_RUNNING = "postgresql://nightdesk@127.0.0.1:1"
_found = launcher.running(DATA_DIR)
DATABASES = databases.settings_for(
    env.str("DATABASE_URL", "") or (_found.postgres if _found else NOTHING_RUNNING),
    MACHINE,
    control_url=env.str("CONTROL_DATABASE_URL", ""),
)
PC_ROLE = "nightdesk_pc"  # by which PC signs in to the control database (manage.py pcrole)
DATABASE_ROUTERS = ["tradingsite.databases.Router"]
REDIS_URL = env.str("REDIS_URL", "") or (_found.redis if _found else "redis://127.0.0.1:1/0")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Django --------------------------------------------------------------------------------------
DEBUG = env.switch("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", "") or keys.secret(DATA_DIR / "secret_key")
WEB_PORT = env.whole("WEB_PORT", 8000, 1, 65_535)
# Where nginx serves the pages to others, over TLS only; empty where they stay on loopback.
PUBLIC_URL = env.str("PUBLIC_URL", "").rstrip("/")
_public = urlsplit(PUBLIC_URL)
if PUBLIC_URL and not (_public.scheme == "https" and _public.hostname and not _public.path):
    raise BadSetting(
        f"PUBLIC_URL is {PUBLIC_URL!r}: it may be the https address that nginx serves, like "
        f"https://desk.example.in"
    )
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost", "[::1]"])
if _public.hostname and _public.hostname not in ALLOWED_HOSTS:
    ALLOWED_HOSTS.append(_public.hostname)
# Of the proxies' headers those of these peers are believed.
TRUSTED_PROXIES = env.list("TRUSTED_PROXIES", default=["127.0.0.1", "::1"] if PUBLIC_URL else [])
INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "django_htmx",
    "csp",
    "axes",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "tradingsite",
    "tradingsite.access",
    "markets",
    "markets.options",
    "markets.straddle",
    "markets.allocator",
    "bots",
    "bots.modelstore",
    "training",
    "backups",
    "monitoring",
    "monitoring.delivery",
]
MIDDLEWARE = [
    "monitoring.middleware.AnswerInTime",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "monitoring.middleware.AdminContentPolicy",
    "monitoring.middleware.SignInUnlessSimulated",
    "monitoring.middleware.ConfirmChanges",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "tradingsite.urls"
WSGI_APPLICATION = "tradingsite.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
LANGUAGE_CODE = "en-in"
USE_TZ = True
TIME_ZONE = "Asia/Kolkata"
SESSION_COOKIE_AGE = 8 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "style-src": [SELF],
        "script-src": [SELF],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

# --- Who may act: signing in, and TLS where others than this machine may -------------------------
LOGIN_URL, LOGIN_REDIRECT_URL, LOGOUT_REDIRECT_URL = "sign-in", "overview", "sign-in"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}", "OPTIONS": options}
    for name, options in (
        ("UserAttributeSimilarityValidator", {}),
        ("MinimumLengthValidator", {"min_length": 12}),
        ("CommonPasswordValidator", {}),
        ("NumericPasswordValidator", {}),  # digits alone are a phone's code
    )
]
AXES_FAILURE_LIMIT = 5
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_COOLOFF_TIME = dt.timedelta(minutes=15)
AXES_RESET_ON_SUCCESS = True
# Else whoever goes on trying from the owner's own network keeps them out for ever.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_CLIENT_IP_CALLABLE = "tradingsite.access.address.counted"
AXES_LOCKOUT_CALLABLE = "monitoring.dashboard.sign_in.locked"
AXES_ENABLE_ADMIN = False  # deleting a row there would lift a lock
OTP_TOTP_ISSUER = "Nightdesk"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


# The names under which others than this machine reach the pages: then a second factor is asked.
PUBLIC_HOSTS = [host for host in ALLOWED_HOSTS if not _is_loopback(host)]
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = bool(PUBLIC_URL)
SECURE_HSTS_SECONDS = 365 * 86_400 if PUBLIC_URL else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = bool(PUBLIC_URL)
SECURE_REDIRECT_EXEMPT = ["^healthz$"]  # asked on this machine, past nginx
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if PUBLIC_URL else None
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if PUBLIC_URL else []
# Preloading is a promise about a whole domain, for the domain's owner to make. Without a public
# address the pages are on loopback alone, by http, where there is no TLS to insist on.
SILENCED_SYSTEM_CHECKS = [
    "security.W021",
    *(() if PUBLIC_URL else (f"security.W{code}" for code in ("004", "008", "012", "016"))),
]

# --- Static files: ours, and the chart library and the font from their npm packages --------------
STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
NODE_MODULES = BASE_DIR / "node_modules"
_PACKAGES = {
    "vendor/lightweight-charts": NODE_MODULES / "lightweight-charts" / "dist",
    "vendor/inter": NODE_MODULES / "@fontsource-variable" / "inter" / "files",
}
STATICFILES_DIRS = [
    BASE_DIR / "templates" / "static",
    *((prefix, str(folder)) for prefix, folder in _PACKAGES.items() if folder.is_dir()),
]
CHARTS_INSTALLED = _PACKAGES["vendor/lightweight-charts"].is_dir()
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
_SHADES = ("50", "100", "200", "300", "400", "500", "600", "700", "800", "900", "950")
_PETROL = (
    *("#f0f7fb", "#e2eff5", "#c2deec", "#94c6df", "#5ba8cc", "#358bb5", "#16628a", "#14536f"),
    *("#14455c", "#14303e", "#0b1e28"),
)
UNFOLD = {
    "SITE_TITLE": "Nightdesk",
    "SITE_HEADER": "Nightdesk",
    "SITE_URL": "/",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("desk/mark.svg")}
    ],
    # The pages' petrol, lightest to darkest.
    "COLORS": {"primary": dict(zip(_SHADES, _PETROL, strict=True))},
}

# --- Celery: JSON only, and a redelivered message can never overlap a live run -------------------
CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_SERIALIZER = CELERY_RESULT_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_RESULT_EXPIRES = None
CELERY_TIMEZONE = TIME_ZONE
CELERY_TASK_DEFAULT_QUEUE = "prod"
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_TASK_ROUTES = {
    "training.tasks.train_on_pc": {"queue": "gpu"},
    "training.tasks.evaluate": {"queue": "gpu"},
    "training.tasks.archive_on_pc": {"queue": "pc"},
    "markets.tasks.file_options": {"queue": "pc"},
}
CELERY_VISIBILITY_TIMEOUT = 3 * 3600
# What PC took and has not done yet is under keys of its own: PROD's is out of its reach.
PC_UNACKED = "pc.unacked"
_OF_PC = {f"unacked{each}_key": f"{PC_UNACKED}{each}" for each in ("", "_index", "_mutex")}
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 3 * 3600,
    **(_OF_PC if MACHINE == "pc" else {}),
}
CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS = {"visibility_timeout": 3 * 3600}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False  # whoever reaches the queue stops and asks no worker
JOBS_APART = True  # what loads much and is seldom done has a process of its own
CELERY_TASK_SOFT_TIME_LIMIT = 6900
CELERY_TASK_TIME_LIMIT = 7200
# Seconds a task of PROD's may take; what is not named here may take the seconds above.
TASK_LIMITS = {
    **dict.fromkeys(
        [f"markets.tasks.{each}" for each in ("collect_options", "collect_bars", "fetch_trades")],
        120,
    ),
    **dict.fromkeys(
        [f"markets.tasks.{each}" for each in ("refresh_token", "fetch_instruments")], 600
    ),
    "training.tasks.export_and_ship": 3600,
    "training.tasks.verify_and_activate": 1800,
}
DJANGO_CELERY_BEAT_TZ_AWARE = True

# --- Logs: one line an event, to stderr; `up` and systemd keep them ------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "tradingsite.logs.RepeatsCounted", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.choice("LOG_LEVEL", "INFO", LEVELS)},
    # Whatever the level of the rest: httpx and telegram write addresses that hold a bot's token.
    "loggers": {
        name: {"level": "WARNING"}
        for name in (
            *("urllib3", "asyncio", "django.request", "axes"),
            *("httpx", "httpcore", "telegram"),
        )
    },
}
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two cores are shared by every service
if os.environ.get(SERVICE_VARIABLE, "gpu-worker") != "gpu-worker":  # which computes all the time
    memory.give_back()
