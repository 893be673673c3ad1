"""The tables of a ledger."""

VERSION = 2
"""``PRAGMA user_version`` of a ledger; a change of the tables raises it."""

APPLICATION = 0x4D504E4E
"""``PRAGMA application_id``: "MPNN"."""

TABLES = """
CREATE TABLE trial (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,  -- Trial.to_dict() as JSON
    graph TEXT NOT NULL,
    graph_hash TEXT NOT NULL REFERENCES graph (hash),
    message TEXT,
    aggr TEXT NOT NULL,
    seed INTEGER NOT NULL,
    epochs INTEGER NOT NULL,  -- asked for
    state TEXT NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'waiting', 'stopped', 'done', 'failed')),
    reason TEXT,  -- why it failed, or was stopped in a race
    attempts INTEGER NOT NULL DEFAULT 0,  -- times it was given to a worker
    failures INTEGER NOT NULL DEFAULT 0,  -- times that this was the trial's own end
    lease INTEGER NOT NULL DEFAULT 0,  -- number of the attempt whose results are accepted
    epochs_done INTEGER NOT NULL DEFAULT 0,
    seconds REAL NOT NULL DEFAULT 0,  -- of the epochs done, with evaluation
    test_error REAL,  -- after the last epoch that was evaluated
    machine TEXT,
    threads INTEGER,
    choices TEXT,  -- backend that "auto" selected in every round
    widths TEXT,
    parameters INTEGER,
    multiply_adds INTEGER,
    until INTEGER NOT NULL,  -- epochs to train now: the next rung of a race, or all
    rung INTEGER,  -- epochs after which a race stopped it
    population INTEGER REFERENCES population (id)  -- that it is trained with; NULL: alone
);
CREATE INDEX trial_by_state ON trial (state, id);
CREATE INDEX trial_by_population ON trial (population, id);

-- A relational graph, whole: a study needs no file of graphs to go on.
CREATE TABLE graph (
    hash TEXT PRIMARY KEY,
    num_nodes INTEGER NOT NULL,
    adjacency BLOB NOT NULL,  -- bits, row by row, row = target
    average_degree REAL NOT NULL,
    clustering_coefficient REAL,
    average_path_length REAL
) WITHOUT ROWID;

CREATE TABLE epoch (
    trial INTEGER NOT NULL REFERENCES trial (id),
    epoch INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    learning_rate REAL,
    train_loss REAL,
    train_error REAL,
    test_loss REAL,
    test_error REAL,
    seconds REAL,  -- of training
    wall REAL,  -- with evaluation and checkpoint
    more TEXT,  -- further metrics as JSON
    PRIMARY KEY (trial, epoch)
) WITHOUT ROWID;

CREATE TABLE attempt (
    trial INTEGER NOT NULL REFERENCES trial (id),
    lease INTEGER NOT NULL,
    worker TEXT NOT NULL,
    outcome TEXT,  -- done, failed, killed, interrupted, lost; NULL while it runs
    reason TEXT,
    detail TEXT,  -- traceback
    PRIMARY KEY (trial, lease)
) WITHOUT ROWID;

-- Results that were not accepted: of a lease that was given to another worker meanwhile, or other
-- than those that a continuation gave. Kept, to be compared with the accepted ones.
CREATE TABLE late_epoch (
    trial INTEGER NOT NULL REFERENCES trial (id),
    lease INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    learning_rate REAL,
    train_loss REAL,
    train_error REAL,
    test_loss REAL,
    test_error REAL,
    seconds REAL,
    wall REAL,
    more TEXT,
    PRIMARY KEY (trial, lease, epoch)
) WITHOUT ROWID;

-- Trials that one worker trains side by side. Fixed before the first of them begins, since the
-- rounding of each depends on the others; kept when a member has failed.
CREATE TABLE population (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE  -- of its members' hashes in order; names its checkpoint
);

CREATE TABLE member (
    population INTEGER NOT NULL REFERENCES population (id),
    place INTEGER NOT NULL,
    trial INTEGER NOT NULL REFERENCES trial (id),
    PRIMARY KEY (population, place)
) WITHOUT ROWID;
CREATE INDEX member_by_trial ON member (trial);

-- What a driver found out and the next one need not: JSON by name.
CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
