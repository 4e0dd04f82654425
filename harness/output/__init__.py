"""Output for people: bars and messages on a terminal, and text made fit to be shown anywhere."""
