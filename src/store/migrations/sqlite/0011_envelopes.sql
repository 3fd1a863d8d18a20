-- From here on hooks.url and hooks.definition are in envelopes. What stands there in the clear is sealed when the registry is opened, and whoever does
-- not know envelopes cannot use the registry.

-- What requests of a hook are signed with, in envelopes. The key before is good for a while.
CREATE TABLE hook_keys (
    hook           TEXT   NOT NULL PRIMARY KEY REFERENCES hooks (id) ON DELETE CASCADE,
    current        TEXT   NOT NULL,
    previous       TEXT,
    previous_until BIGINT,
    updated_at     BIGINT NOT NULL
);
