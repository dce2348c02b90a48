"""Virtual machine monitors: the description of a machine (machine), and one module for each program that runs it."""
