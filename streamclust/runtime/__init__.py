"""Code for all daemons and commands: jobs, threads, signals, log, backoff, making a learner."""
