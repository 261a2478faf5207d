"""Addresses of the pages. Each has a row in tests/web/test_permissions.py, or that test fails."""

from django.contrib.auth import views as auth
from django.urls import path, reverse_lazy
from django.utils.translation import gettext_lazy as _

from .views import (
    account,
    alarm,
    auditing,
    dashboard,
    databases,
    health,
    history,
    incidents,
    launching,
    login,
    reporting,
    runs,
    second_factor,
)

app_name = "maintenance"
urlpatterns = [
    path("", dashboard.dashboard, name="dashboard"),
    path("live/", dashboard.dashboard_live, name="dashboard_live"),
    path("alarm/", alarm.alarm, name="alarm"),
    path("databases/", databases.databases, name="databases"),
    path("databases/<str:name>/", databases.database, name="database"),
    path("databases/<str:name>/live/", databases.database_live, name="database_live"),
    path("databases/<str:name>/trend.json", databases.database_trend, name="database_trend"),
    path("databases/<str:name>/diagnose/", databases.diagnose, name="diagnose"),
    path("launch/", launching.choose, name="launch"),
    path("launch/plan/", launching.plan, name="launch_plan"),
    path("launch/plan/live/", launching.plan_live, name="launch_plan_live"),
    path("launch/confirm/", launching.confirm, name="launch_confirm"),
    path("runs/<int:pk>/", runs.run, name="run"),
    path("runs/<int:pk>/live/", runs.run_live, name="run_live"),
    path("runs/<int:pk>/log/", runs.run_log, name="run_log"),
    path("runs/<int:pk>/log/live/", runs.run_log_live, name="run_log_live"),
    path("runs/<int:pk>/cancel/", runs.cancel, name="run_cancel"),
    path("runs/<int:pk>/approve/", runs.approve, name="run_approve"),
    path("runs/<int:pk>/break-glass/", runs.break_glass, name="run_break_glass"),
    path("runs/<int:pk>/acknowledge/", runs.acknowledge, name="run_acknowledge"),
    path("runs/<int:pk>/report.pdf", runs.report, name="run_report"),
    path("runs/<int:pk>/performance.csv", runs.performance, name="run_performance"),
    path("incidents/<int:pk>/close/", incidents.close, name="incident_close"),
    path("history/", history.history, name="history"),
    path("history.csv", history.history_csv, name="history_csv"),
    path("reports/", reporting.reports, name="reports"),
    path("reports/maintenance.pdf", reporting.reports_pdf, name="reports_pdf"),
    path("reports/maintenance.csv", reporting.reports_csv, name="reports_csv"),
    path("audit/", auditing.audit_log, name="audit"),
    path("audit/verify/", auditing.audit_verify, name="audit_verify"),
    path("audit/export.jsonl", auditing.audit_export, name="audit_export"),
    path("account/", account.account, name="account"),
    path("account/preferences/", account.prefer, name="preferences"),
    path("account/tokens/", account.token_create, name="token_create"),
    path("account/tokens/<int:pk>/revoke/", account.token_revoke, name="token_revoke"),
    path("account/language/", account.language, name="set_language"),
    path("account/second-factor/", second_factor.second_factor, name="second_factor"),
    path("account/second-factor/enrol/", second_factor.second_factor_enrol, name="second_factor_enrol"),
    path("account/second-factor/remove/", second_factor.second_factor_remove, name="second_factor_remove"),
    path("account/recovery-codes/", second_factor.recovery_codes, name="recovery_codes"),
    path("accounts/login/", login.Login.as_view(), name="login"),
    path("accounts/logout/", auth.LogoutView.as_view(), name="logout"),
    path(
        "accounts/password/",
        auth.PasswordChangeView.as_view(
            success_url=reverse_lazy("maintenance:account"), extra_context={"title": _("Change password")}
        ),
        name="password_change",
    ),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
]
