-- What people say of themselves, ways back for those who forgot their password, and OAuth clients. Whoever does not know these tables can still use the
-- registry.

ALTER TABLE users ADD COLUMN account_info TEXT;

-- Codes are kept as SHA-256 hashes only.
CREATE TABLE password_resets (
    code_hash  BLOB   NOT NULL PRIMARY KEY,
    user_id    BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX password_resets_by_user ON password_resets (user_id);

-- A client's id is its slug and its number, which is never given again. Secrets are kept as SHA-256 hashes only. A realm is user:1 or product:10001.
CREATE TABLE oauth_clients (
    number       INTEGER PRIMARY KEY AUTOINCREMENT,
    realm        TEXT    NOT NULL,
    slug         TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    redirect_uri TEXT,
    scopes       TEXT    NOT NULL,
    secret_hash  BLOB    NOT NULL,
    created_at   BIGINT  NOT NULL,
    updated_at   BIGINT  NOT NULL
);

CREATE INDEX oauth_clients_by_realm ON oauth_clients (realm);
