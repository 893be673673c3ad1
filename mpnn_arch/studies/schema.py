"""The tables of a ledger."""

VERSION = 2
"""``PRAGMA user_version`` of a ledger; a change of the tables raises it."""

APPLICATION = 0x4D504E4E
"""``PRAGMA application_id``: "MPNN"."""

TRIAL = """
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
"""

ADDED = """
CREATE INDEX trial_by_state ON trial (state, id);
CREATE INDEX trial_by_population ON trial (population, id);

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

OTHERS = """
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
"""

TABLES = OTHERS + TRIAL + ADDED

#: How tables of version 1 look to who reads them: no race, no population.
AS_VERSION_2 = """
CREATE TEMP VIEW trial AS
    SELECT *, epochs AS until, NULL AS rung, NULL AS population FROM main.trial;
CREATE TEMP VIEW population AS SELECT 0 AS id, '' AS hash WHERE 0;
CREATE TEMP VIEW member AS SELECT 0 AS population, 0 AS place, 0 AS trial WHERE 0;
CREATE TEMP VIEW setting AS SELECT '' AS name, '' AS value WHERE 0;
"""

#: From version 1 to 2, in one transaction: SQLite changes a CHECK by copying the table.
UPGRADE = f"""
BEGIN IMMEDIATE;
{TRIAL.replace("CREATE TABLE trial", "CREATE TABLE trial_2")}
INSERT INTO trial_2 SELECT *, epochs, NULL, NULL FROM trial;
DROP TABLE trial;
ALTER TABLE trial_2 RENAME TO trial;
{ADDED}
PRAGMA user_version = {VERSION};
COMMIT;
"""
