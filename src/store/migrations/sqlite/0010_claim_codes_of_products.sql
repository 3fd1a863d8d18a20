-- The product that devices go into which present the code. Whoever does not know this column can still use the registry.

ALTER TABLE claim_codes ADD COLUMN product BIGINT;
