"""What diagnosis asks the catalogs and the statistics, and what an answer means.

Every question is cheap and read-only, and is asked in a transaction of its own: one that fails is told as
"cannot tell". Reasons for the figures stand over them.
"""

from __future__ import annotations

from . import damage, data_at_risk, indexes, load, obstacles, old_transactions, replication, sequences

QUESTIONS = (
    *indexes.QUESTIONS,
    *old_transactions.QUESTIONS,
    *load.QUESTIONS,
    *damage.QUESTIONS,
    *sequences.QUESTIONS,
    *data_at_risk.QUESTIONS,
    *replication.QUESTIONS,
    *obstacles.QUESTIONS,
)
