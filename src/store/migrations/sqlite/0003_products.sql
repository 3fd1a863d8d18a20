-- Products, their groups, people and programs; what products say of devices; and the log of acts. Whoever does not know these tables can still use the
-- registry.

-- A product that was removed keeps its number, which devices may carry for years, and nothing else: it has no slug then.
CREATE TABLE products (
    id                INTEGER NOT NULL PRIMARY KEY,
    slug              TEXT    UNIQUE,
    owner             BIGINT  REFERENCES users (id) ON DELETE SET NULL,
    name              TEXT    NOT NULL,
    description       TEXT,
    platform_id       INTEGER NOT NULL,
    settings          TEXT    NOT NULL,
    device_protection TEXT    NOT NULL,
    created_at        BIGINT  NOT NULL,
    updated_at        BIGINT  NOT NULL,
    removed_at        BIGINT
);

CREATE INDEX products_by_owner ON products (owner);

CREATE TABLE product_groups (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    product          BIGINT  NOT NULL REFERENCES products (id),
    name             TEXT    NOT NULL,
    description      TEXT,
    color            TEXT,
    firmware_version INTEGER,
    created_at       BIGINT  NOT NULL,
    updated_at       BIGINT  NOT NULL,
    UNIQUE (product, name)
);

CREATE TABLE team_members (
    product    BIGINT NOT NULL REFERENCES products (id),
    user_id    BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role       TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (product, user_id)
);

CREATE INDEX team_members_by_user ON team_members (user_id);

CREATE TABLE api_users (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    product       BIGINT  NOT NULL REFERENCES products (id),
    username      TEXT    NOT NULL UNIQUE,
    friendly_name TEXT    NOT NULL,
    scopes        TEXT    NOT NULL,
    created_at    BIGINT  NOT NULL,
    updated_at    BIGINT  NOT NULL
);

CREATE INDEX api_users_by_product ON api_users (product);

-- Who holds a token, if it is not the account itself: an API user of the product, or a client that was registered for the realm.
ALTER TABLE access_tokens ADD COLUMN product BIGINT;
ALTER TABLE access_tokens ADD COLUMN api_user BIGINT;
ALTER TABLE access_tokens ADD COLUMN oauth_client BIGINT;

-- Only devices of which something is said have a row. 1 is yes.
CREATE TABLE device_memberships (
    device                   TEXT    NOT NULL PRIMARY KEY REFERENCES devices (id) ON DELETE CASCADE,
    serial_number            TEXT,
    quarantined              INTEGER NOT NULL,
    denied                   INTEGER NOT NULL,
    development              INTEGER NOT NULL,
    firmware_updates_forced  INTEGER NOT NULL,
    desired_firmware_version INTEGER
);

CREATE TABLE device_groups (
    device   TEXT   NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    group_id BIGINT NOT NULL REFERENCES product_groups (id) ON DELETE CASCADE,
    PRIMARY KEY (device, group_id)
);

CREATE INDEX device_groups_by_group ON device_groups (group_id);

-- Ids of devices that were imported into a product and are not registered yet.
CREATE TABLE product_known (
    device     TEXT   NOT NULL PRIMARY KEY,
    product    BIGINT NOT NULL REFERENCES products (id),
    created_at BIGINT NOT NULL
);

CREATE INDEX product_known_by_product ON product_known (product);

-- The log of acts: rows are added at its end and, when there are too many, dropped at its beginning. Hashes are 64 hex digits.
CREATE TABLE audit_log (
    number  BIGINT NOT NULL PRIMARY KEY,
    at      BIGINT NOT NULL,
    who     TEXT   NOT NULL,
    address TEXT,
    act     TEXT   NOT NULL,
    object  TEXT   NOT NULL,
    detail  TEXT   NOT NULL,
    hash    TEXT   NOT NULL
);

-- Its only row says where the log begins and ends, and with which hashes.
CREATE TABLE audit_head (
    id          INTEGER NOT NULL PRIMARY KEY,
    first       BIGINT  NOT NULL,
    before_hash TEXT    NOT NULL,
    next        BIGINT  NOT NULL,
    last_hash   TEXT    NOT NULL
);

INSERT INTO audit_head (id, first, before_hash, next, last_hash)
VALUES (1, 1, '0000000000000000000000000000000000000000000000000000000000000000',
        1, '0000000000000000000000000000000000000000000000000000000000000000');
