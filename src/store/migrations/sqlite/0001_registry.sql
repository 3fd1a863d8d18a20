-- Accounts, their tokens, devices and their keys. Times are milliseconds since 1970, identifiers of devices 24 lower-case hex digits.

CREATE TABLE users (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    email         TEXT    NOT NULL,
    password_hash TEXT    NOT NULL,
    created_at    BIGINT  NOT NULL
);

-- One account per address, in whatever case it is written.
CREATE UNIQUE INDEX users_email ON users (lower(email));

-- Tokens are kept as SHA-256 hashes only.
CREATE TABLE access_tokens (
    token_hash         BLOB   NOT NULL PRIMARY KEY,
    id                 TEXT   NOT NULL UNIQUE,
    user_id            BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client             TEXT   NOT NULL,
    scopes             TEXT   NOT NULL,
    expires_at         BIGINT,
    refresh_hash       BLOB   UNIQUE,
    refresh_expires_at BIGINT,
    created_at         BIGINT NOT NULL
);

CREATE INDEX access_tokens_by_user ON access_tokens (user_id);

CREATE TABLE devices (
    id          TEXT    NOT NULL PRIMARY KEY,
    owner       BIGINT  REFERENCES users (id),
    product     BIGINT,
    platform_id INTEGER,
    name        TEXT,
    notes       TEXT,
    created_at  BIGINT  NOT NULL
);

-- Rows without an owner or a name do not collide: NULLs are distinct.
CREATE UNIQUE INDEX devices_name_per_owner ON devices (owner, name);

CREATE TABLE device_keys (
    key_hash   BLOB   NOT NULL PRIMARY KEY,
    device     TEXT   NOT NULL UNIQUE REFERENCES devices (id) ON DELETE CASCADE,
    algorithm  TEXT   NOT NULL,
    spki       BLOB   NOT NULL,
    created_at BIGINT NOT NULL
);
