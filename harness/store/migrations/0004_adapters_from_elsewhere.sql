-- Of weights that come from elsewhere, nobody may have told how they were trained.
ALTER TABLE adapter ALTER COLUMN trained_on DROP NOT NULL;
ALTER TABLE adapter ALTER COLUMN n_trainable DROP NOT NULL;
ALTER TABLE adapter ALTER COLUMN seed DROP NOT NULL;
ALTER TABLE adapter ALTER COLUMN train_seconds DROP NOT NULL;
ALTER TABLE adapter ALTER COLUMN peak_bytes DROP NOT NULL;
