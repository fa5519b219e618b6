CREATE TABLE `ec2_call` (
	`id` text PRIMARY KEY NOT NULL,
	`at` integer NOT NULL,
	`action` text NOT NULL,
	`iface` text NOT NULL,
	`ips` text NOT NULL,
	`server` text NOT NULL,
	`ended_at` integer,
	`result` text
);
--> statement-breakpoint
CREATE INDEX `ec2_call_at` ON `ec2_call` (`at`);--> statement-breakpoint
CREATE TABLE `history` (
	`subnet` text NOT NULL,
	`ip` text NOT NULL,
	`generation` integer NOT NULL,
	`at` integer NOT NULL,
	`move` text NOT NULL,
	`iface` text,
	`instance` text,
	`holder` text,
	`cause` text NOT NULL,
	`request` text,
	`server` text NOT NULL,
	PRIMARY KEY(`subnet`, `ip`, `generation`)
);
--> statement-breakpoint
CREATE INDEX `history_at` ON `history` (`at`);