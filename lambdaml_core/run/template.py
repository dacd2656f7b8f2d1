"""A job file with every key, its default and its meaning: what ``lambdaml train --template`` prints."""

from __future__ import annotations

JOB_TEMPLATE = """\
# A training job: lambdaml train job.toml
# Relative paths start from the directory of this file. A key that is left out has the value shown.

# name = "income"           # a word for listings
seed = 0                    # all randomness comes from it, but the order of a partition that exists
workers = 4
batch_size = 1000           # rows of a mini-batch, over all workers together
epochs = 10                 # passes over the data
# rounds = 900              # or rounds of the optimizer; whichever of the two ends first counts
# evaluate = 90             # rounds between looks at the validation rows; an epoch, or more where looks are over 200
# class_weight = "balanced" # or what a row of each class counts, by label: { spam = 2.0 }; every row counts 1
# code = ["net.py"]         # files and folders of your own that workers import; plugins may be among them
# init_from = "my-model"    # a saved model, or a run of the store, to go on from; its preprocessing and labels are used
communicator = "aggregate"  # the pattern by which workers exchange
aggregators = 1             # ranks that fold: 1 = AllReduce by a leader, "all" = ScatterReduce, or a number between;
#                             or "auto", the quickest by what the channel takes, which lambdaml plan job.toml shows
# store = "file:///data/lambdaml"             # durable: runs, data, models; a path is short for file://
# channel = "redis://:{env:REDIS_PASSWORD}@cache:6379"   # hot: what workers exchange; secrets as {env:NAME} only

[data]
source = "train.libsvm"     # a file, a folder or "part-*.csv" to partition, or a partition that exists, which has its
#                             own format, shards and validation rows
# format = "libsvm"         # by the ending of the file's name; options: format = { label = "income", drop = ["id"] }
# shards = 4                # files of the partition; one per worker, or one if there is little
# validation = 0.2          # share of the rows kept for validation
# features = 28             # columns the data must have; whatever it has

[model]                     # lambdaml plugins show logistic_regression
name = "logistic_regression"
bias = true

[optimizer]                 # lambdaml plugins show ga_sgd; or name = "ma_sgd", and local_steps or local_epochs
name = "ga_sgd"
learning_rate = 0.1
schedule = "auto"           # or "constant", "inverse", "inverse_sqrt", "step", "cosine"
# decay_steps = 1000        # how soon inverse, inverse_sqrt and step fall
decay_factor = 0.1
warmup_steps = 0
momentum = 0.0
nesterov = false
l1 = 0.0
l2 = 0.0
accumulate = 1              # mini-batches between exchanges
asynchronous = false        # true: each worker goes on with the latest that it finds of the others
# staleness = 4             # rounds that an asynchronous worker may be ahead of any other; any number

[stop]                      # what may end the run earlier, decided for all workers alike
# loss = 0.3                # the validation loss is at most this (the training loss, without validation rows)
# improvement = 0.001       # it has not fallen by more than this share of its best ...
# patience = 3              # ... for so many looks in a row
# seconds = 600.0           # since the first round; such an end cannot be repeated exactly

[checkpoint]                # by which a lost worker is replaced; one is due by whichever comes first
enabled = true              # without, a worker that is lost ends the run
rounds = 1000               # from one to the next
seconds = 30.0
# retain_bytes = 67108864   # results kept for replacements, at most; 64 MiB, or 8 messages if these are more

[recovery]
deadline_s = 60.0           # least time without a sign of life before a worker is given up, or without an answer of a
#                             storage before the run is, which can be resumed
# heartbeat_s = 1.0         # between signs of life; 5 where the store is on a network
longest_step_s = 3600.0     # a worker that takes longer for one local step hangs, and is replaced
restarts = 10               # of a worker, in a row, without getting any further
successions = 1000          # times that a worker whose time is up may hand over

[limits]                    # a run that passes one is ended, and can be resumed
# cost_usd = 2.0            # storage and workers
# seconds = 3600.0          # since the launch

[provider]
name = "local"              # a fresh process per worker; "inline" runs threads
# max_duration_s = 900.0    # that one process may run, in seconds; then a successor goes on. Left out: no limit
"""
