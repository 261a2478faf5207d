"""Where the procedure lets others know: it imports nothing of what renders."""

from __future__ import annotations

from django.dispatch import Signal

outage_near = Signal()
"""The last quiet moment before an outage: load now what takes seconds to load."""
run_ending = Signal()
"""All targets of `run` have ended. Receivers write files and set their paths on the run, which is saved afterwards."""
target_released = Signal()
"""A person opened `target` again, as `who`; its run may have ended long ago."""
