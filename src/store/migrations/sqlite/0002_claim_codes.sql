-- Claim codes are kept as SHA-256 hashes only. Whoever does not know this table can still use the registry.

CREATE TABLE claim_codes (
    code_hash  BLOB   NOT NULL PRIMARY KEY,
    user_id    BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX claim_codes_by_user ON claim_codes (user_id);
