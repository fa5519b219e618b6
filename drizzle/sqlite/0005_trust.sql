CREATE TABLE `host` (
	`instance` text PRIMARY KEY NOT NULL,
	`enrolled_at` integer,
	`expires_at` integer,
	`seen_at` integer,
	`revoked_at` integer,
	`allowed_at` integer
);
--> statement-breakpoint
CREATE TABLE `nonce` (
	`value` text PRIMARY KEY NOT NULL,
	`until` integer NOT NULL,
	`token` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `sighting` (
	`subnet` text NOT NULL,
	`ip` text NOT NULL,
	`iface` text NOT NULL,
	`generation` integer NOT NULL,
	`boot` text NOT NULL,
	`engine` text NOT NULL,
	`attachment` text NOT NULL,
	`unseen_since` integer,
	`unseen_readings` integer DEFAULT 0 NOT NULL,
	`used_since` integer,
	`used_readings` integer DEFAULT 0 NOT NULL,
	`seen_at` integer,
	`container` text,
	`name` text,
	`image` text,
	`finding` text,
	PRIMARY KEY(`subnet`, `ip`)
);
--> statement-breakpoint
CREATE INDEX `sighting_iface` ON `sighting` (`iface`);--> statement-breakpoint
CREATE TABLE `tenant` (
	`name` text PRIMARY KEY NOT NULL,
	`quota` integer NOT NULL,
	`profile` text,
	`generation` integer DEFAULT 0 NOT NULL,
	`token` text
);
--> statement-breakpoint
ALTER TABLE `allocation` ADD `instance` text;--> statement-breakpoint
ALTER TABLE `allocation` ADD `request_id` text;--> statement-breakpoint
ALTER TABLE `allocation` ADD `release_id` text;--> statement-breakpoint
CREATE UNIQUE INDEX `request` ON `allocation` (`request_id`);--> statement-breakpoint
ALTER TABLE `eni` ADD `tenant` text;--> statement-breakpoint
ALTER TABLE `eni` ADD `mac` text;--> statement-breakpoint
CREATE INDEX `eni_tenant` ON `eni` (`tenant`);
