"""Settings of the console.

Three environment variables shape an installation: DBMAINT_HOME (where everything the console writes
lives), DBMAINT_DATABASE_URL (the control database) and DBMAINT_CONFIG (applications, notifications,
encryption). Everything else that a DBA changes is in TBL-098.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from dbmaint_site.control import database_from_url, local_key, private_folder

BASE_DIR = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("DBMAINT_HOME", BASE_DIR / "var")).resolve()
CONFIG_FILE = Path(os.environ.get("DBMAINT_CONFIG", "/etc/db-maintenance/config.json"))
REPORTS_DIR = Path(os.environ.get("DBMAINT_REPORTS_DIR", HOME / "reports/db-maintenance"))
PERFORMANCE_DIR = Path(os.environ.get("DBMAINT_PERFORMANCE_DIR", HOME / "data/performance"))
LOGS_DIR = Path(os.environ.get("DBMAINT_LOGS_DIR", HOME / "logs"))
AUDIT_KEY = Path(os.environ.get("DBMAINT_AUDIT_KEY", HOME / "audit.key"))
"""Signs the end of the audit chain; made on first use. Whoever has it and the database can forge the chain."""
MARK_KEY = Path(os.environ.get("DBMAINT_MARK_KEY", AUDIT_KEY.with_name("marks.key")))
"""Signs what a maintenance leaves on a server, so that a worker knows its own; made on first use. Not for the web."""
AUDIT_FILE = Path(os.environ.get("DBMAINT_AUDIT_FILE", HOME / "audit/checkpoints.jsonl"))
"""Every signed end of the chain, one a line: a disk that the control database's owner cannot write is best."""
private_folder(HOME)
for folder in (LOGS_DIR, HOME / "static"):
    folder.mkdir(parents=True, exist_ok=True, mode=0o750)

SECRET_KEY = os.environ.get("DBMAINT_SECRET_KEY") or local_key(HOME / "secret.key")
DEBUG = os.environ.get("DBMAINT_DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("DBMAINT_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")
SITE_URL = os.environ.get("DBMAINT_SITE_URL", "http://127.0.0.1:8905")
SECURE = os.environ.get("DBMAINT_INSECURE") != "1"
"""Off only where the console is reached over plain http on this machine (demo, development, tests)."""

INSTALLED_APPS = [
    "dbmaint_site.apps.ConsoleAdminConfig",
    # Before Django's: its changepassword and createsuperuser are audited here.
    "maintenance.identity",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.forms",
    "csp",
    "django_otp",
    "django_otp.plugins.otp_static",
    "django_otp.plugins.otp_totp",
    "django_htmx",
    "django_q",
    "ninja",
    "maintenance",
    "reports",
    # Its command fills a history for load tests; packages come without it.
    *(["bench"] if find_spec("bench") else []),
]

MIDDLEWARE = [
    "maintenance.middleware.cheap_health",
    "maintenance.middleware.believe_proxies",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "maintenance.middleware.session_rules",
    "maintenance.middleware.second_factor_first",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "maintenance.views.account.own_language_and_time",
    "maintenance.middleware.too_many_tries",
]

ROOT_URLCONF = "dbmaint_site.urls"
WSGI_APPLICATION = "dbmaint_site.wsgi.application"
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"
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
                "maintenance.context_processors.page_frame",
            ],
        },
    }
]

DATABASES = {"default": database_from_url(os.environ.get("DBMAINT_DATABASE_URL", f"sqlite:///{HOME}/control.sqlite3"))}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "maintenance:login"
LOGIN_REDIRECT_URL = "maintenance:dashboard"
LOGOUT_REDIRECT_URL = "maintenance:login"
SESSION_ENGINE = "maintenance.identity.sessions"
SESSION_HOURS = float(os.environ.get("DBMAINT_SESSION_HOURS", "8"))
IDLE_MINUTES = float(os.environ.get("DBMAINT_IDLE_MINUTES", "60"))
"""A page that only refreshes itself is nobody's presence."""
SESSION_COOKIE_AGE = int(SESSION_HOURS * 3600)
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECOND_FACTOR_REQUIRED = os.environ.get("DBMAINT_SECOND_FACTOR", "required" if SECURE else "optional") == "required"
"""Of everybody who may launch, approve or change settings. Others may have one if they like."""
OTP_TOTP_ISSUER = "dbmaint"
OTP_TOTP_THROTTLE_FACTOR = OTP_STATIC_THROTTLE_FACTOR = 1

WEB_USER = os.environ.get("DBMAINT_WEB_USER", "")
"""The account of the web, which is not that of the worker; the production check looks what it may read."""
PROXIES = tuple(filter(None, os.environ.get("DBMAINT_PROXIES", "").replace(" ", "").split(",")))
"""Addresses whose X-Forwarded-For and X-Forwarded-Proto are believed; `unix`: whoever reaches the web's socket."""
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = SECURE
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
SECURE_HSTS_SECONDS = 31536000 if SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

APPROVAL_HOURS = float(os.environ.get("DBMAINT_APPROVAL_HOURS", "24"))
"""How long somebody may approve what was asked for, and how long it may wait for a worker then."""

# What is kept how long (specification 7.2); see docs/reports.md.
KEEP_RECORDS_DAYS = int(os.environ.get("DBMAINT_KEEP_RECORDS_DAYS", "365"))
KEEP_PERFORMANCE_DAYS = int(os.environ.get("DBMAINT_KEEP_PERFORMANCE_DAYS", "183"))
KEEP_AUDIT_DAYS = int(os.environ.get("DBMAINT_KEEP_AUDIT_DAYS", "1826"))
KEEP_BACKUP_DAYS = int(os.environ.get("DBMAINT_KEEP_BACKUP_DAYS", "30"))
KEEP_BACKUPS = int(os.environ.get("DBMAINT_KEEP_BACKUPS", "3"))
"""Of each database, however old they are; never fewer than one."""
X_FRAME_OPTIONS = "DENY"
PLOTLY_STYLES = (
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='",
    "'sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o='",
)
"""Of the two style elements that plotly makes: an empty one, whose rules it adds by the DOM, and that of its maps."""
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'", *PLOTLY_STYLES],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}
"""Nothing inline, nothing from another host. `data:` is for the icons of the admin site and the API's page."""

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("ja", "日本語")]
REPORT_LANGUAGE = os.environ.get("DBMAINT_REPORT_LANGUAGE", LANGUAGE_CODE)
"""Of the reports that are made without anybody asking: at the end of a run and once a month."""
CSV_BOM = os.environ.get("DBMAINT_CSV_BOM", "1") == "1"
"""Spreadsheets take UTF-8 for what it is only after a byte order mark; some programs stumble over it."""
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = os.environ.get("DBMAINT_TIME_ZONE", "Asia/Tokyo")
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = HOME / "static"
STATICFILES_DIRS: list[str | Path | tuple[str, str]] = [BASE_DIR / "static"]
PLOTLY = find_spec("plotly")
if PLOTLY is not None and PLOTLY.origin is not None:
    # Its JavaScript comes with the package; importing the package here would cost every command its time.
    STATICFILES_DIRS.append(("plotly", str(Path(PLOTLY.origin).parent / "package_data")))

# django-q2 as this console needs it; maintenance.checks.settings refuses other values and says why.
WORKERS = int(os.environ.get("DBMAINT_WORKERS", "4"))
BROKER = os.environ.get("DBMAINT_BROKER", "")
"""Empty: the control database. redis://…: the messages only, for many hosts; everything that counts stays there."""
Q_CLUSTER = {
    "name": "dbmaint",
    **({"redis": BROKER} if BROKER else {"orm": "default"}),
    "workers": WORKERS,
    "queue_limit": WORKERS,
    "timeout": 4 * 3600,
    "retry": 5 * 3600,
    "max_attempts": 1,
    "ack_failures": True,
    "poll": 0.5,
    "broker_class": f"maintenance.broker.{'Redis' if BROKER else 'ControlDatabase'}",
    "scheduler": False,
    "save_limit": -1,
    "catch_up": False,
    "label": "Queue",
}
LEASE_SECONDS = float(os.environ.get("DBMAINT_LEASE_SECONDS", "20"))
"""How long a silent worker keeps its targets. It beats four times in this span."""
SILENCE_SECONDS = float(os.environ.get("DBMAINT_SILENCE_SECONDS", "300"))
"""How long a target may leave every question unanswered before the line to it is given up and tried anew."""
PATIENCE_SECONDS = float(os.environ.get("DBMAINT_PATIENCE_SECONDS", "300"))
"""How long a worker waits for the control database before it gives up; then `release` works from the black box."""
SWEEP_SECONDS = float(os.environ.get("DBMAINT_SWEEP_SECONDS", "10"))
"""How often a live cluster looks for targets without a worker."""

KEEP_LOGS_DAYS = {"maintenance": 366, "error": 366, "performance": 184}
"""Specification 7.2: a year, a year, six months."""
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {
        "about": {"()": "maintenance.conf.logs.About"},
        "errors": {"()": "maintenance.conf.logs.ErrorsAndResponses"},
    },
    "formatters": {
        "json": {"()": "maintenance.conf.logs.JsonLine"},
        "line": {"()": "maintenance.conf.logs.Line", "format": "%(asctime)s %(levelname)s %(name)s %(message)s"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "line", "level": "WARNING"},
        **{
            kind: {
                "class": "maintenance.conf.logs.DailyFile",
                "folder": LOGS_DIR,
                "kind": kind,
                "keep_days": days,
                "formatter": "json",
                "filters": ["about", "errors"] if kind == "error" else ["about"],
            }
            for kind, days in KEEP_LOGS_DAYS.items()
        },
    },
    "loggers": {
        "maintenance": {"handlers": ["maintenance", "error", "console"], "level": "INFO", "propagate": False},
        "performance": {"handlers": ["performance"], "level": "INFO", "propagate": False},
        "reports": {"handlers": ["maintenance", "error", "console"], "level": "INFO", "propagate": False},
        "django": {"handlers": ["error", "console"], "level": "INFO", "propagate": False},
        "django-q": {"handlers": ["error", "console"], "level": "WARNING", "propagate": False},
    },
}
