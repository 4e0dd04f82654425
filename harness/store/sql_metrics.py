"""Recomputation of every metric in SQL, from predictions joined with examples, independent of `harness.stats.metrics`.

So a mistake there, or in a stored metric, cannot confirm itself.
"""

from collections.abc import Collection

from harness.store.connection import Connection

Numbers = dict[str, float | None]
"""Values by metric, with `n` and the four counts of the confusion matrix (`true_positive`, …); None where undefined."""

NAMES = (
    "n", "true_positive", "false_positive", "false_negative", "true_negative",
    "accuracy", "precision", "recall", "f1", "mcc", "roc_auc", "log_loss", "brier", "ece",
)  # fmt: skip
_SQL = """
WITH answer AS (
    SELECT run_id, nullif(label, -1)::INTEGER AS label, predicted::INTEGER AS predicted, score,
           greatest(score, 1 - score) AS confidence,
           (nullif(label, -1) = predicted)::INTEGER AS is_right,
           rank() OVER (PARTITION BY run_id ORDER BY score)
               + (count(*) OVER (PARTITION BY run_id, score) - 1) / 2.0 AS middle_rank
    FROM run
    JOIN prediction USING (run_id)
    JOIN example ON example.digest = run.split_digest AND example.example_id = prediction.example_id
    WHERE list_contains($run_ids, run_id)
),
gap AS (
    SELECT run_id, abs(sum(is_right - confidence)) AS gap
    FROM answer GROUP BY run_id, least(floor(confidence * 15), 14)
),
counted AS (
    SELECT run_id, count(*)::DOUBLE AS n, count(*) = count(label) AS labelled,
           count(*) FILTER (WHERE label = 1 AND predicted = 1)::DOUBLE AS tp,
           count(*) FILTER (WHERE label = 0 AND predicted = 1)::DOUBLE AS fp,
           count(*) FILTER (WHERE label = 1 AND predicted = 0)::DOUBLE AS fn,
           count(*) FILTER (WHERE label = 0 AND predicted = 0)::DOUBLE AS tn,
           avg(-ln(least(1, greatest(1e-15, CASE label WHEN 1 THEN score ELSE 1 - score END)))) AS log_loss,
           avg((score - label) ** 2) AS brier,
           sum(middle_rank) FILTER (WHERE label = 1)::DOUBLE AS rank_sum
    FROM answer GROUP BY run_id
)
SELECT run_id, n, tp, fp, fn, tn,
       CASE WHEN labelled THEN (tp + tn) / n END,
       CASE WHEN labelled THEN tp / nullif(tp + fp, 0) END,
       CASE WHEN labelled THEN tp / nullif(tp + fn, 0) END,
       CASE WHEN labelled THEN 2 * tp / nullif(2 * tp + fp + fn, 0) END,
       CASE WHEN labelled THEN (tp * tn - fp * fn) / nullif(sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)), 0) END,
       CASE WHEN labelled THEN (rank_sum - (tp + fn) * (tp + fn + 1) / 2) / nullif((tp + fn) * (tn + fp), 0) END,
       CASE WHEN labelled THEN log_loss END,
       CASE WHEN labelled THEN brier END,
       CASE WHEN labelled THEN (SELECT sum(gap) FROM gap WHERE gap.run_id = counted.run_id) / n END
FROM counted
"""


def metrics_of(connection: Connection, run_ids: Collection[str]) -> dict[str, Numbers]:
    """Metrics recomputed from the stored predictions of these runs, by run id; runs without predictions are absent."""
    rows = connection.execute(_SQL, {"run_ids": sorted(run_ids)}).fetchall()
    return {run_id: dict(zip(NAMES, values, strict=True)) for run_id, *values in rows}
