"""Results passed between this harness and others: their files as answers, and stored results in their forms."""
