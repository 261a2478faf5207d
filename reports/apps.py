from django.apps import AppConfig


class ReportsConfig(AppConfig):
    name = "reports"
    verbose_name = "Reports"

    def ready(self) -> None:
        from maintenance.workflow.signals import outage_near, run_ending, target_released

        from . import write

        outage_near.connect(write.load_renderer)
        run_ending.connect(write.at_the_end)
        target_released.connect(write.after_release)
