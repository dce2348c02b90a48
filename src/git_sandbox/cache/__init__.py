"""Cache entries that are complete or absent: images, bases, templates."""
