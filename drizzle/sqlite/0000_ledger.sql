CREATE TABLE IF NOT EXISTS `allocation` (
	`ip` text NOT NULL,
	`subnet` text NOT NULL,
	`status` text DEFAULT 'free' NOT NULL,
	`iface` text,
	`primary` integer NOT NULL,
	`ts` text DEFAULT CURRENT_TIMESTAMP NOT NULL,
	`number` blob NOT NULL,
	`spread` integer NOT NULL,
	`generation` integer DEFAULT 0 NOT NULL,
	`moved_at` integer DEFAULT 0 NOT NULL,
	`rested_since` integer,
	`rested_from` text,
	`left_iface` text,
	`left_at` integer,
	`missing_since` integer,
	`absent_since` integer,
	`refused_at` integer,
	`holder` text,
	`token` text,
	PRIMARY KEY(`subnet`, `ip`)
);
--> statement-breakpoint
CREATE INDEX IF NOT EXISTS `free` ON `allocation` (`subnet`,`status`,`refused_at`,`rested_since`,`spread`,`number`);--> statement-breakpoint
CREATE INDEX IF NOT EXISTS `ready` ON `allocation` (`iface`,`status`,`rested_since`,`number`);--> statement-breakpoint
CREATE INDEX IF NOT EXISTS `intent` ON `allocation` (`status`,`moved_at`,`number`,`subnet`);--> statement-breakpoint
CREATE INDEX IF NOT EXISTS `address` ON `allocation` (`subnet`,`number`);--> statement-breakpoint
CREATE TABLE IF NOT EXISTS `eni` (
	`id` text PRIMARY KEY NOT NULL,
	`subnet` text NOT NULL,
	`primary` text NOT NULL,
	`instance` text,
	`attachment` text,
	`address_limit` integer,
	`prefixes` integer NOT NULL,
	`ours` integer NOT NULL,
	`count_intent_at` integer,
	`generation` integer DEFAULT 0 NOT NULL,
	`token` text
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS `fact` (
	`name` text PRIMARY KEY NOT NULL,
	`value` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS `server` (
	`id` text PRIMARY KEY NOT NULL,
	`started_at` integer NOT NULL,
	`seen_at` integer NOT NULL,
	`stopped_at` integer
);
--> statement-breakpoint
CREATE TABLE IF NOT EXISTS `subnet` (
	`id` text PRIMARY KEY NOT NULL,
	`vpc` text NOT NULL,
	`cidr` text NOT NULL
);
