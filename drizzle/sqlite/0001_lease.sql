CREATE TABLE IF NOT EXISTS `lease` (
	`name` text PRIMARY KEY NOT NULL,
	`server` text NOT NULL,
	`until` integer NOT NULL
);
