"""From stored runs to verdicts: rules judged, baselines, comparisons, sample sizes, reports."""
