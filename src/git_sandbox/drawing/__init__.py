"""Text figures and SVG pictures from data: pure functions, which print nothing and start nothing."""
