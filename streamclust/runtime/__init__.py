"""What daemons and commands share: jobs, threads, signals, log, backoff, assembling a learner."""
