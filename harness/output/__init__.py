"""Output for people: progress bars and messages on a terminal, and text made safe to display anywhere."""
