-- See drizzle/mysql/0012_containers.sql.
ALTER TABLE `allocation` ADD `container_id` text;--> statement-breakpoint
ALTER TABLE `allocation` ADD `container_since` integer;--> statement-breakpoint
ALTER TABLE `allocation` ADD `held_container` text;--> statement-breakpoint
ALTER TABLE `history` ADD `container_id` text;--> statement-breakpoint
ALTER TABLE `server` ADD `version` text;
