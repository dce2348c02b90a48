"""The screen of `sandbox top`. It reads from a source and runs verbs; `cli` supplies both."""
