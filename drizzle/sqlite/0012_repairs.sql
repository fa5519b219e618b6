-- See drizzle/mysql/0013_repairs.sql.
ALTER TABLE `allocation` ADD `repair_unsure_at` integer;
