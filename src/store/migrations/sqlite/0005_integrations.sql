-- Integrations, firmware, answers to requests that are repeated, and devices that change hands. Whoever does not know these tables can still use the
-- registry. A realm is user:1 or product:10001.

CREATE TABLE hooks (
    id         TEXT    NOT NULL PRIMARY KEY,
    realm      TEXT    NOT NULL,
    event      TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    url        TEXT    NOT NULL,
    enabled    INTEGER NOT NULL,
    definition TEXT    NOT NULL,
    created_at BIGINT  NOT NULL,
    updated_at BIGINT  NOT NULL
);

CREATE INDEX hooks_by_realm ON hooks (realm);

-- The bytes are in a file that is named by their SHA-256.
CREATE TABLE firmware (
    product         BIGINT  NOT NULL REFERENCES products (id),
    version         INTEGER NOT NULL,
    title           TEXT    NOT NULL,
    description     TEXT,
    mandatory       INTEGER NOT NULL,
    product_default INTEGER NOT NULL,
    file_name       TEXT    NOT NULL,
    size            BIGINT  NOT NULL,
    sha256          TEXT    NOT NULL,
    uploaded_by     BIGINT,
    uploaded_on     BIGINT  NOT NULL,
    updated_at      BIGINT  NOT NULL,
    released_at     BIGINT,
    PRIMARY KEY (product, version)
);

CREATE INDEX firmware_by_file ON firmware (sha256);

-- What was answered to a request that its sender gave a key, so that it is not done again. State 0 is under way in the process of that number, 1 is
-- interrupted, 2 is answered.
CREATE TABLE idempotency_keys (
    holder       TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    request_hash BLOB    NOT NULL,
    state        INTEGER NOT NULL,
    process      BIGINT  NOT NULL,
    status       INTEGER,
    headers      TEXT,
    body         BLOB,
    expires_at   BIGINT  NOT NULL,
    PRIMARY KEY (holder, name)
);

CREATE INDEX idempotency_keys_by_end ON idempotency_keys (expires_at);

-- Devices that somebody asks the present owner for.
CREATE TABLE device_transfers (
    id         TEXT   NOT NULL PRIMARY KEY,
    device     TEXT   NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    from_user  BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    to_user    BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    UNIQUE (device, to_user)
);

CREATE INDEX device_transfers_by_from ON device_transfers (from_user);
CREATE INDEX device_transfers_by_to ON device_transfers (to_user);
