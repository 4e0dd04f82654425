-- Texts on which a parity check compared variant and reference: those near the decision and a fixed share of the others.
-- NULL in checks of earlier releases, which compared all `n` of them, and where there are no numbers.
ALTER TABLE parity ADD COLUMN compared INTEGER;
