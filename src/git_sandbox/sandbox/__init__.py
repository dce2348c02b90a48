"""The story of one sandbox: prepare, run (story), bring home (home), look after it later (recover, inspect, drop)."""
