"""What a permission and a group let a person do, as a sentence goes on after "may"."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

PERMISSIONS: Mapping[str, Promise] = {
    "read_reports": _("read history, reports and trends"),
    "view_maintenancerun": _("see runs"),
    "view_databasestate": _("see databases and their states"),
    "launch_maintenance": _("launch a maintenance"),
    "approve_maintenance": _("approve a maintenance that another asked for"),
    "cancel_maintenance": _("cancel a maintenance"),
    "allow_data_loss": _("allow a maintenance to give up damaged rows"),
    "break_glass": _("begin a maintenance without the approval it needs"),
    "add_databasestate": _("post states of databases, ask for a diagnosis"),
    "add_incident": _("open and close incidents"),
    "view_incident": _("see incidents in the settings"),
    "view_notification": _("see the messages that were sent"),
    "view_maintenancesetting": _("see the settings of databases"),
    "add_maintenancesetting": _("register databases"),
    "change_maintenancesetting": _("change the settings of databases"),
    "delete_maintenancesetting": _("delete the settings of databases"),
    "view_auditentry": _("read the audit log"),
    "verify_audit": _("verify the audit log"),
    "add_user": _("add people"),
    "change_user": _("change people, their groups and passwords"),
    "delete_user": _("delete people"),
    "view_user": _("see people"),
    "add_group": _("add groups"),
    "change_group": _("change what groups may do"),
    "delete_group": _("delete groups"),
    "view_group": _("see groups"),
}
"""By codename, in the order in which pages list them. No other permission opens anything of the console."""
