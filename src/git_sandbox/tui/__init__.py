"""The screen of `sandbox top`. It asks a source what to show and lets verbs do the rest; `cli` gives it both."""
