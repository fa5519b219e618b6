CREATE TABLE IF NOT EXISTS `bucket` (
	`name` text PRIMARY KEY NOT NULL,
	`empty_at` integer NOT NULL,
	`halvings` integer NOT NULL,
	`throttled_at` integer NOT NULL
);
