ALTER TABLE `allocation` ADD `claimed_at` integer;--> statement-breakpoint
ALTER TABLE `allocation` ADD `repeated_at` integer;