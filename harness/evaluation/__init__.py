"""From a suite to stored runs: inputs, plan, training, scoring, storing."""
