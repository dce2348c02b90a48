"""Pictures and figures of text, made of data: pure functions, which print nothing and start nothing."""
