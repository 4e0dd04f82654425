-- The release and code of the plug-in that defined a metric. NULL for a built-in metric.
ALTER TABLE metric ADD COLUMN origin VARCHAR;
