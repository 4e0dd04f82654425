"""From stored runs to verdicts: judging, baselines, comparisons, sample sizes and reports."""
