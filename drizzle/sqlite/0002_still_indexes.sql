DROP INDEX `ready`;--> statement-breakpoint
DROP INDEX `free`;--> statement-breakpoint
DROP INDEX `intent`;--> statement-breakpoint
CREATE INDEX `iface` ON `allocation` (`iface`,`number`);--> statement-breakpoint
CREATE INDEX `free` ON `allocation` (`subnet`,`refused_at`,`rested_since`,`spread`,`number`) WHERE status = 'free';--> statement-breakpoint
CREATE INDEX `intent` ON `allocation` (`moved_at`,`number`,`subnet`) WHERE status IN ('assigning', 'unassigning');--> statement-breakpoint
ALTER TABLE `eni` ADD `released_at` integer;