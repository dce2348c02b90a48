"""Virtual machine monitors: what a machine is (machine), one module for each program that runs one."""
