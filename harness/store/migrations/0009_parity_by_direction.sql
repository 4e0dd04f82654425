-- Whether a form leans to a class: which way its flips go. NULL where the form could not be asked, and in checks of
-- earlier releases, which counted flips alone.
ALTER TABLE parity ADD COLUMN turned_positive INTEGER;
ALTER TABLE parity ADD COLUMN turned_negative INTEGER;
ALTER TABLE parity ADD COLUMN p_value DOUBLE;   -- exact McNemar test of the two counts
