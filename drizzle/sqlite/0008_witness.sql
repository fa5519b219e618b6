CREATE TABLE `witness` (
	`instance` text PRIMARY KEY NOT NULL,
	`ticket` text NOT NULL,
	`begun_at` integer NOT NULL,
	`read_at` integer,
	`incomplete` text,
	`engine` text,
	`engine_since` integer
);
--> statement-breakpoint
CREATE INDEX `sighting_used` ON `sighting` (`used_since`);